"""Problems beside request logging and our own streams: one record, one traceback, one answer."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel, SecretStr, field_validator
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_prodkit import (
    EventStreamResponse,
    NDJSONResponse,
    ProblemMiddleware,
    RequestLoggingMiddleware,
    problem,
)
from fastapi_prodkit.request_logging import StreamSink

from .served_like import as_a_server


@problem(status=410, type="shelf-gone")
class ShelfGoneError(Exception):
    pass


@pytest.fixture(params=[True, False])
def shop(request: pytest.FixtureRequest) -> Any:
    """The app and its access records, with the two middlewares in both orders."""
    output = io.StringIO()
    app = FastAPI()
    lines: list[Any] = [(RequestLoggingMiddleware, {"sink": StreamSink(output)}), (ProblemMiddleware, {})]
    for middleware, options in lines if request.param else reversed(lines):
        app.add_middleware(middleware, **options)

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("socket")

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    async def items(error: Exception) -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        raise error

    @app.get("/csv")
    async def csv() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "a,b\n"
            raise ValueError("socket")

        return StreamingResponse(lines(), media_type="text/csv")

    @app.get("/broken-events")
    async def broken_events() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            raise ValueError("socket")

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/broken-lines")
    async def broken_lines() -> NDJSONResponse:
        return NDJSONResponse(items(ValueError("socket")))

    @app.get("/lines")
    async def ndjson() -> NDJSONResponse:
        return NDJSONResponse(items(ShelfGoneError()))

    @app.get("/events")
    async def events() -> EventStreamResponse:
        return EventStreamResponse(items(ShelfGoneError()))

    @app.get("/task")
    async def task(tasks: BackgroundTasks) -> None:
        def fail() -> None:
            raise ValueError("socket")

        tasks.add_task(fail)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError("socket")

    def records() -> list[Any]:
        return [json.loads(line) for line in output.getvalue().splitlines()]

    return as_a_server(app), records


def _tracebacks(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.exc_info is not None for record in caplog.records)


@pytest.mark.parametrize(
    ("path", "status", "outcome", "kind", "tracebacks"),
    [
        ("/boom", 500, "server_error", "builtins.ValueError", 1),
        ("/missing", 404, "client_error", None, 0),
        ("/nowhere", 404, "client_error", None, 0),
        ("/csv", 200, "server_error", "builtins.ValueError", 1),
        ("/broken-events", 200, "server_error", "builtins.ValueError", 1),
        ("/broken-lines", 200, "server_error", "builtins.ValueError", 1),
        ("/lines", 200, "ok", None, 0),
        ("/events", 200, "ok", None, 0),
        ("/task", 200, "ok", None, 1),
    ],
)
def test_each_request_has_one_record_and_at_most_one_traceback(
    shop: Any,
    path: str,
    status: int,
    outcome: str,
    kind: str | None,
    tracebacks: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, records = shop
    client.get(path)
    (record,) = records()
    assert (record["http.response.status_code"], record["outcome"]) == (status, outcome)
    assert record.get("exception.type") == kind
    assert _tracebacks(caplog) == tracebacks


def test_a_broken_socket_has_one_record_and_one_traceback(
    shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client, records = shop
    with client.websocket_connect("/socket") as socket, pytest.raises(WebSocketDisconnect):
        socket.receive_text()
    (record,) = records()
    assert (record["websocket.close_code"], record["outcome"]) == (1011, "server_error")
    assert _tracebacks(caplog) == 1


@pytest.mark.parametrize("path", ["/lines", "/events"])
def test_our_streams_tell_a_declared_exception(shop: Any, path: str) -> None:
    client, _ = shop
    assert '"/problems/shelf-gone"' in client.get(path).text


class Copying:
    """Passes on a copy of the scope, as a middleware has to that changes it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope}, receive, send)


@pytest.mark.parametrize("kind", [NDJSONResponse, EventStreamResponse])
@pytest.mark.parametrize("path", ["/stream", "/mounted/stream"])
@pytest.mark.parametrize("copying", [False, True])
def test_a_stream_of_ours_that_breaks_is_recorded_as_broken_without_problems_too(
    kind: Any, path: str, copying: bool
) -> None:
    output = io.StringIO()
    app, mounted = FastAPI(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=StreamSink(output))
    app.mount("/mounted", mounted)

    async def items() -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        raise ValueError("broken")

    for each in (app, mounted):
        each.get("/stream")(lambda: kind(items()))
        if copying:
            each.add_middleware(Copying)

    response = TestClient(app, raise_server_exceptions=False).get(path)
    assert '"status":500' in response.text
    (record,) = (json.loads(line) for line in output.getvalue().splitlines())
    assert (record["outcome"], record["exception.type"]) == ("server_error", "builtins.ValueError")


async def _forward(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def _sent_to(app: FastAPI, path: str, *, until: int) -> Any:
    """Serve a request whose client is found gone at message number `until`, by a server of ASGI 2.4."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if len(sent) == until:
            raise ConnectionResetError("gone")
        sent.append(message)

    asgi = {"version": "3.0", "spec_version": "2.4"}
    scope = {"type": "http", "asgi": asgi, "method": "GET", "path": path, "headers": [], "query_string": b""}
    return app(scope, receive, send)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/mounted"])
@pytest.mark.parametrize("until", [0, 1])
@pytest.mark.parametrize("between", [None, GZipMiddleware, partial(BaseHTTPMiddleware, dispatch=_forward)])
async def test_a_client_that_is_found_gone_when_the_app_sends_is_no_error(
    path: str, until: int, between: Any, caplog: pytest.LogCaptureFixture
) -> None:
    output, seen = io.StringIO(), list[BaseException]()
    app, mounted = FastAPI(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=StreamSink(output))
    app.add_middleware(ProblemMiddleware, on_error=seen.append)
    if between is not None:
        app.add_middleware(between)
    app.mount("/mounted", mounted)
    for each in (app, mounted):
        each.get("/")(lambda: "here")
    await _sent_to(app, path, until=until)
    assert seen == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert json.loads(output.getvalue())["outcome"] == "client_disconnect"


async def test_an_oserror_of_the_app_itself_is_an_error_whatever_the_server_speaks() -> None:
    seen = list[BaseException]()
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, on_error=seen.append)

    @app.get("/")
    async def read() -> None:
        raise FileNotFoundError("prices.csv")

    await _sent_to(app, "/", until=-1)
    assert [type(each) for each in seen] == [FileNotFoundError]


def test_the_record_of_an_error_has_the_id_of_its_request(shop: Any) -> None:
    client, _ = shop
    seen: list[Any] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(getattr(record, "request_id", None))

    handler = Keep()
    logger = logging.getLogger("fastapi_prodkit.problems")
    logger.addHandler(handler)
    try:
        with client:
            response = client.get("/boom")
    finally:
        logger.removeHandler(handler)
    assert seen == [response.headers["x-request-id"]]


CANARY = "canary-4711"


class Password(BaseModel):
    password: SecretStr
    token: str

    @field_validator("token")
    @classmethod
    def _known(cls, value: str) -> str:
        raise ValueError(f"no such token: {value}")


def _talk(client: TestClient, path: str, headers: Any) -> str:
    """The reason of the close that a frame provokes."""
    with client.websocket_connect(path, headers=headers) as socket:
        socket.send_text(CANARY)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    return str(closed.value.reason)


def test_a_canary_planted_anywhere_is_in_no_record_and_no_body(caplog: pytest.LogCaptureFixture) -> None:
    output = io.StringIO()
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RequestLoggingMiddleware, sink=StreamSink(output))

    @app.post("/login/{name}")
    async def login(name: str, given: Password) -> None: ...

    @app.post("/boom/{name}")
    async def boom(name: str, request: Request) -> None:
        try:
            Password.model_validate(await request.json())
        except ValueError as error:
            raise KeyError(name, await request.body()) from error

    @app.websocket("/socket/{name}")
    async def socket(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        raise RuntimeError(await websocket.receive_text())

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the client's own line has the whole URL
    client = as_a_server(app)
    client.cookies.set("session", CANARY)
    headers = {"Authorization": f"Bearer {CANARY}", "X-Key": CANARY, "Accept-Language": CANARY}
    with caplog.at_level(logging.DEBUG), client:
        bodies = [
            client.post(f"/{path}/{CANARY}?key={CANARY}", json=body, headers={**headers, **more}).text
            for path in ("login", "boom", "nowhere")
            for body in ({"password": CANARY, "token": CANARY}, CANARY, {CANARY: [CANARY]})
            for more in ({}, {"Accept": "text/html"})
        ]
        closed = _talk(client, f"/socket/{CANARY}?token={CANARY}", headers)
    assert not any(CANARY in body for body in bodies)
    assert closed == "Internal Server Error"
    assert CANARY not in output.getvalue()
    assert CANARY not in caplog.text
