"""Errors when the response has started."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse

from fastapi_prodkit import ProblemMiddleware, problem

PROBLEM = {"type": "about:blank", "title": "Internal Server Error", "status": 500}


@problem(status=410, type="gone-away")
class GoneAwayError(Exception):
    pass


def create_app(make: Callable[[], Exception] = lambda: ValueError("secret")) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    async def chunks(*before: bytes) -> AsyncIterator[bytes]:
        for chunk in before:
            yield chunk
        raise make()

    def stream(path: str, media_type: str, *before: bytes, **headers: str) -> None:
        @app.get(path)
        async def endpoint() -> StreamingResponse:
            return StreamingResponse(chunks(*before), media_type=media_type, headers=headers)

    stream("/events", "text/event-stream", b"data: 1\n\n", b"data: 2\n\n")
    stream("/by-field", "text/event-stream", b"event: a\n", b"data: 1\n", b"\n")
    stream("/by-byte", "text/event-stream", *(bytes([byte]) for byte in b"data: 1\r\n\r\n"))
    stream("/half-event", "text/event-stream", b"data: 1\n\n", b"data: 2")
    stream("/lines", "application/x-ndjson", b'{"n":1}\n')
    stream("/half-line", "application/jsonl", b'{"n":1}\n{"n"')
    stream("/first", "application/x-ndjson")
    stream("/csv", "text/csv", b"a,b\n1,2\n")
    stream("/counted", "application/x-ndjson", b'{"n":1}\n', **{"Content-Length": "100"})

    @app.get("/native-lines")
    async def native_lines() -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        raise make()

    @app.get("/native-events", response_class=EventSourceResponse)
    async def native_events() -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        raise make()

    return app


def quiet(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def last_line(text: str) -> Any:
    return json.loads(text.splitlines()[-1])


def test_an_event_stream_ends_with_an_error_event(caplog: pytest.LogCaptureFixture) -> None:
    response = quiet(create_app()).get("/events")
    *before, event, end = response.text.split("\n\n")
    assert (before, end) == (["data: 1", "data: 2"], "")
    name, data = event.splitlines()
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == PROBLEM
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "ValueError in the middle of the response to GET /events"
    ]


@pytest.mark.parametrize("path", ["/by-field", "/by-byte"])
def test_an_event_may_be_whole_though_its_end_is_a_chunk_of_its_own(path: str) -> None:
    text = quiet(create_app()).get(path).text
    assert json.loads(text.rpartition("event: error\ndata: ")[2]) == PROBLEM


@pytest.mark.parametrize("path", ["/lines", "/half-line", "/first", "/native-lines"])
def test_json_lines_end_with_a_problem_line(path: str) -> None:
    response = quiet(create_app()).get(path)
    assert response.text.endswith("\n")
    assert last_line(response.text) == PROBLEM


def test_a_native_event_stream_ends_with_an_error_event() -> None:
    text = quiet(create_app()).get("/native-events").text
    assert text.split("\n\n")[-2].startswith("event: error\ndata: {")


def test_a_declared_exception_is_told_in_the_stream_and_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = TestClient(create_app(GoneAwayError))
    assert last_line(client.get("/lines").text) == {
        "type": "/problems/gone-away",
        "title": "Gone",
        "status": 410,
    }
    assert '"/problems/gone-away"' in client.get("/events").text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_an_http_exception_in_a_stream_is_told_in_it() -> None:
    client = TestClient(create_app(lambda: HTTPException(404, "no such shelf")))
    assert last_line(client.get("/native-lines").text)["detail"] == "no such shelf"


def test_a_compressed_stream_carries_its_problem_too() -> None:
    app = create_app()
    app.add_middleware(GZipMiddleware, minimum_size=1)
    response = quiet(app).get("/lines")
    assert response.headers["content-encoding"] == "gzip"
    assert last_line(response.text) == PROBLEM


@pytest.mark.parametrize("path", ["/csv", "/half-event", "/counted"])
@pytest.mark.parametrize("between", [None, BaseHTTPMiddleware, GZipMiddleware])
async def test_another_body_is_aborted_and_logged_once(
    path: str, between: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a middleware that would end the body in good order."""
    app = create_app()
    if between is BaseHTTPMiddleware:

        async def forward(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=forward)
    elif between is not None:
        app.add_middleware(between)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert all(message.get("more_body") for message in sent[1:])
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_body_that_breaks_before_it_left_a_buffer_is_a_500_after_all() -> None:
    app = create_app()
    app.add_middleware(GZipMiddleware)

    @app.get("/empty", response_class=StreamingResponse)
    async def empty() -> AsyncIterator[str]:
        raise ValueError
        yield ""

    response = quiet(app).get("/empty")
    assert (response.status_code, response.json()) == (500, PROBLEM)


def test_a_test_client_sees_the_exception_that_cut_a_body() -> None:
    with pytest.raises(ValueError, match="secret"):
        TestClient(create_app()).get("/csv")
