"""One record for a WebSocket: how it was opened, who closed it with which code, and what went both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketException
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_prodkit import RequestLoggingMiddleware

from .lines import Lines

OUTCOMES = {"ok", "client_error", "server_error", "client_disconnect", "cancelled", "incomplete"}


def _client(lines: Lines, endpoint: Callable[[WebSocket], Awaitable[None]]) -> TestClient:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)

    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await endpoint(websocket)

    return TestClient(app)


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_messages_and_bytes_are_counted_both_ways(lines: Lines) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await websocket.receive_bytes()
        await websocket.send_text("\u00e9")
        await websocket.close(1000)

    with _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:
        websocket.send_text("hello")
        websocket.send_bytes(b"\0\1\2")
        websocket.receive_text()
    record = lines.only
    assert record["event.name"] == "websocket.session"
    assert record["message"] == "WebSocket /rooms/{room} 1000"
    assert (record["websocket.messages.received"], record["websocket.messages.sent"]) == (2, 1)
    assert (record["http.request.body.size"], record["http.response.body.size"]) == (8, 2)


async def _accept_and_wait(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        await websocket.receive_text()


async def _accept_and_refuse(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(1008, "no")


async def _accept_and_give_up(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(1011)


@pytest.mark.parametrize(
    ("endpoint", "client_code", "code", "closed_by", "outcome"),
    [
        (_accept_and_wait, 1000, 1000, "client", "ok"),
        (_accept_and_wait, 1001, 1001, "client", "ok"),
        (_accept_and_wait, 1006, 1006, "client", "client_disconnect"),
        (_accept_and_wait, 4001, 4001, "client", "client_disconnect"),
        (_accept_and_wait, 1012, 1012, "server", "cancelled"),
        (_accept_and_refuse, None, 1008, "server", "client_error"),
        (_accept_and_give_up, None, 1011, "server", "server_error"),
    ],
)
def test_who_closed_it_with_which_code(
    lines: Lines, endpoint: Any, client_code: int | None, code: int, closed_by: str, outcome: str
) -> None:
    with _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:
        if client_code is None:
            websocket.receive()
        else:
            websocket.close(client_code)
    record = lines.only
    assert record["http.response.status_code"] == 101
    assert (record["websocket.close_code"], record["websocket.closed_by"]) == (code, closed_by)
    assert record["outcome"] == outcome


async def _close_at_once(websocket: WebSocket) -> None:
    await websocket.close(4000)


async def _refuse_by_exception(websocket: WebSocket) -> None:
    raise WebSocketException(1008)


async def _refuse_by_http(websocket: WebSocket) -> None:
    raise HTTPException(401)


@pytest.mark.parametrize(
    ("endpoint", "status", "kind"),
    [
        (_close_at_once, 403, WebSocketDisconnect),
        (_refuse_by_exception, 403, WebSocketDisconnect),
        (_refuse_by_http, 401, WebSocketDenialResponse),
    ],
)
def test_a_refused_handshake_has_the_status_that_the_client_saw(
    lines: Lines, endpoint: Any, status: int, kind: type[Exception]
) -> None:
    with (
        pytest.raises(kind) as caught,
        _client(lines, endpoint).websocket_connect("/rooms/1"),
    ):
        pytest.fail("it was accepted")
    record = lines.only
    assert record["http.response.status_code"] == status
    assert record["outcome"] == "client_error"
    assert record["websocket.close_code"] is None
    if isinstance(caught.value, WebSocketDenialResponse):
        assert caught.value.headers["x-request-id"] == record["request_id"]


def test_an_accepted_socket_has_one_id_whatever_the_app_says(lines: Lines) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(headers=[(b"x-request-id", b"another")])
        await websocket.close()

    with _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:
        headers: Any = websocket.extra_headers
    assert headers == [(b"x-request-id", lines.only["request_id"].encode())]


@pytest.mark.parametrize("accepted", [True, False])
def test_an_exception_is_the_server_s_error(lines: Lines, accepted: bool) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        if accepted:
            await websocket.accept()
        raise ValueError

    with pytest.raises(ValueError), _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:  # noqa: PT011 -- the type is all there is
        websocket.receive()
    record = lines.only
    assert record["outcome"] == "server_error"
    assert record["http.response.status_code"] == (101 if accepted else 500)
    assert record["websocket.close_code"] == (1006 if accepted else None)
    assert record["exception.type"] == "builtins.ValueError"


STEPS = st.sampled_from(
    [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "x"},
        {"type": "websocket.send", "bytes": b"x"},
        {"type": "websocket.close", "code": 1000},
        {"type": "websocket.close", "code": 4999},
        {"type": "websocket.http.response.start", "status": 401, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no"},
        "receive",
        "fail",
        "cancel",
    ]
)
INCOMING = st.sampled_from(
    [
        {"type": "websocket.receive", "text": "x"},
        {"type": "websocket.receive", "bytes": b"x", "text": None},
        {"type": "websocket.disconnect", "code": 1001},
        {"type": "websocket.disconnect"},
    ]
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=6), incoming=st.lists(INCOMING, max_size=4), broken=st.booleans())
def test_every_sequence_of_socket_events_ends_in_one_record(
    steps: list[Any], incoming: list[Message], broken: bool
) -> None:
    lines = Lines()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in steps:
            if step == "fail":
                raise ValueError
            if step == "cancel":
                raise asyncio.CancelledError
            await (receive() if step == "receive" else send(step))

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        if broken:
            raise OSError("the client left")

    async def run() -> None:
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "scheme": "ws"}
        await RequestLoggingMiddleware(app, sink=lines)(scope, receive, send)

    with suppress(ValueError, OSError, asyncio.CancelledError):
        asyncio.run(run())
    assert lines.only["outcome"] in OUTCOMES


def test_a_farewell_that_the_endpoint_does_not_catch_is_no_error(lines: Lines) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()

    with suppress(WebSocketDisconnect), _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:
        websocket.close(1001)
    assert lines.only["outcome"] == "ok"
    assert "exception.type" not in lines.only


def test_a_farewell_in_a_task_group_is_no_error_either(lines: Lines) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            group.create_task(websocket.receive_text())

    with suppress(ExceptionGroup), _client(lines, endpoint).websocket_connect("/rooms/1") as websocket:
        websocket.close(1001)
    assert (lines.only["outcome"], lines.only["websocket.close_code"]) == ("ok", 1001)
    assert "exception.type" not in lines.only


@pytest.mark.parametrize("caught", [True, False])
@pytest.mark.parametrize("request_first", [True, False])
async def test_a_client_that_is_found_gone_when_the_app_sends_has_left(
    lines: Lines, request_first: bool, caught: bool
) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)

    @app.websocket("/rooms")
    async def rooms(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(*([WebSocketDisconnect] if caught else [])):
            await websocket.send_text("hello?")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise OSError("the client left")

    base = {"headers": [], "query_string": b"", "client": ("192.0.2.1", 1)}
    request = {**base, "type": "http", "method": "GET", "path": "/docs", "asgi": {"spec_version": "2.3"}}
    socket = {**base, "type": "websocket", "path": "/rooms", "asgi": {"spec_version": "2.4"}}
    if request_first:  # as uvicorn, whose sockets speak a newer ASGI than its requests
        await app(request, receive, send)
    with suppress(WebSocketDisconnect):
        await app(socket, receive, send)
    record = lines.records[-1]
    assert record["outcome"] == "client_disconnect"
    assert (record["websocket.close_code"], record["websocket.closed_by"]) == (1006, "client")
    assert "exception.type" not in record
