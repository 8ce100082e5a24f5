"""What a client is told when a stream fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from starlette.responses import Response

from fastapi_prodkit import CSVResponse, EventStreamResponse, NDJSONResponse, ProblemError, ProblemMiddleware

from .wire import Wire

FORMATS = {"ndjson": NDJSONResponse, "sse": EventStreamResponse, "csv": CSVResponse}
ERRORS: dict[str, Exception] = {
    "http": HTTPException(403, "Not your orders."),
    "problem": ProblemError(409, "Changed.", type="/problems/changed"),
    "no error": HTTPException(303),
    "bug": ValueError("password hunter2"),
}


async def _items(count: int, error: Exception) -> AsyncIterator[dict[str, int]]:
    for number in range(count):
        yield {"number": number}
        await asyncio.sleep(0)
    raise error


def _plain_items(count: int, error: Exception) -> Iterator[dict[str, int]]:
    for number in range(count):
        yield {"number": number}
    raise error


def _client(*, middleware: bool = False) -> TestClient:
    app = FastAPI()
    if middleware:
        app.add_middleware(ProblemMiddleware)

    @app.get("/{kind}/{error}")
    async def stream(kind: str, error: str, count: int = 0, plain: bool = False) -> Response:
        items: Any = _plain_items if plain else _items
        response: Response = FORMATS[kind](items(count, ERRORS[error]))
        return response

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_an_http_error_before_the_first_item_is_an_answer_like_any_other(
    kind: str, plain: bool, middleware: bool
) -> None:
    response = _client(middleware=middleware).get(f"/{kind}/http", params={"plain": plain})
    assert response.status_code == 403
    assert response.json()["detail"] == "Not your orders."


@pytest.mark.parametrize("kind", FORMATS)
def test_a_bug_before_the_first_item_is_a_500(kind: str) -> None:
    response = _client().get(f"/{kind}/bug")
    assert response.status_code == 500
    assert "hunter2" not in response.text


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("error", "document"),
    [
        ("http", {"status": 403, "title": "Forbidden", "type": "about:blank", "detail": "Not your orders."}),
        ("problem", {"status": 409, "title": "Conflict", "type": "/problems/changed", "detail": "Changed."}),
        ("bug", {"status": 500, "title": "Internal Server Error", "type": "about:blank"}),
    ],
)
def test_the_last_line_of_broken_ndjson_is_a_problem_after_all_items(
    error: str, document: dict[str, Any], plain: bool, middleware: bool
) -> None:
    client = _client(middleware=middleware)
    response = client.get(f"/ndjson/{error}", params={"count": 2, "plain": plain})
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == [{"number": 0}, {"number": 1}, document]


def test_what_breaks_a_stream_is_a_500_where_its_status_is_no_error() -> None:
    lines = _client().get("/ndjson/no error", params={"count": 1}).text.splitlines()
    assert json.loads(lines[-1])["status"] == 500


@pytest.mark.parametrize("middleware", [False, True])
def test_a_broken_event_stream_ends_with_an_event_named_error(middleware: bool) -> None:
    response = _client(middleware=middleware).get("/sse/bug", params={"count": 1})
    assert response.text.split("\n\n") == [
        'data: {"number":0}',
        'event: error\ndata: {"type":"about:blank","title":"Internal Server Error","status":500}',
        "",
    ]


async def test_a_broken_csv_is_never_completed() -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="hunter2"):
        await wire.serve(CSVResponse(_items(2, ERRORS["bug"])))
    assert wire.body == b"number\r\n0\r\n1\r\n"
    assert not wire.is_complete


async def test_a_bug_in_the_middle_is_raised_for_whoever_logs_and_an_http_error_is_logged_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="hunter2"):
        await Wire().serve(NDJSONResponse(_items(1, ERRORS["bug"])))
    assert caplog.records == []
    await Wire().serve(NDJSONResponse(_items(1, ERRORS["http"])))
    assert [record.getMessage() for record in caplog.records] == [
        "a stream ended early: 403 Not your orders."
    ]


async def test_an_item_that_cannot_be_serialised_fails_after_those_before_it() -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="Unable to serialize"):
        await wire.serve(NDJSONResponse([1, object()]))
    assert wire.body.startswith(b'1\n{"type":"about:blank"')
    assert wire.is_complete


async def test_a_generator_that_cancels_itself_is_an_error_and_not_a_short_stream() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    wire = Wire()
    with pytest.raises(RuntimeError, match="cancelled itself"):
        await wire.serve(NDJSONResponse(items()))
    assert b'"status":500' in wire.body
