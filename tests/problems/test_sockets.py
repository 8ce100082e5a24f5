"""Errors on WebSockets: a problem document before accept, an honest close after it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketException
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware
from starlette.testclient import WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_prodkit import ProblemError, ProblemMiddleware, problem

from .served_like import as_a_server


@problem(status=409, type="room-full", detail="{room} is full", close_code=4409)
class RoomFullError(Exception):
    def __init__(self, room: str) -> None:
        self.room = room


def refuse(kind: str = "") -> None:
    errors: dict[str, Exception] = {
        "http": HTTPException(401, headers={"WWW-Authenticate": "Bearer"}),
        "problem": ProblemError(403, "not your room", type="forbidden-room"),
        "declared": RoomFullError("lobby"),
        "policy": WebSocketException(1008, "no token"),
        "own-code": WebSocketException(4404),
        "again": WebSocketException(1013),
        "done": WebSocketException(1000),
        "boom": ValueError("secret"),
        "long": RoomFullError("é" * 200),
        "unavailable": ProblemError(503),
    }
    if kind in errors:
        raise errors[kind]


def create_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.websocket("/before/{kind}", dependencies=[Depends(refuse)])
    async def before(websocket: WebSocket, number: Annotated[int, Query()] = 0) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/after/{kind}")
    async def after(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        refuse(kind)
        await websocket.receive_text()

    @app.websocket("/long-goodbye")
    async def long_goodbye(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("goodbye")
        await websocket.close(4000, "é" * 200)

    @app.websocket("/closes/{code}")
    async def closes(websocket: WebSocket, code: int) -> None:
        await websocket.accept()
        await websocket.close(code)

    @app.websocket("/raises/{code}")
    async def raises(websocket: WebSocket, code: int) -> None:
        await websocket.accept()
        raise WebSocketException(code)

    @app.websocket("/closed/{kind}")
    async def closed(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        await websocket.close(4000)
        refuse(kind)

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app())


def denied(client: TestClient, path: str) -> Any:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(path):
        pytest.fail("it was accepted")
    return caught.value


def test_before_accept_an_http_exception_is_a_whole_response(client: TestClient) -> None:
    response = denied(client, "/before/http")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.content) == {"type": "about:blank", "title": "Unauthorized", "status": 401}


@pytest.mark.parametrize(
    ("kind", "status", "member"),
    [
        ("problem", 403, {"type": "/problems/forbidden-room", "detail": "not your room"}),
        ("declared", 409, {"type": "/problems/room-full", "detail": "lobby is full"}),
        ("policy", 403, {"close_code": 1008, "detail": "no token"}),
        ("own-code", 404, {"close_code": 4404}),
        ("again", 503, {"close_code": 1013}),
    ],
)
def test_before_accept_every_refusal_is_a_problem(
    client: TestClient, kind: str, status: int, member: Any
) -> None:
    response = denied(client, f"/before/{kind}")
    assert response.status_code == status
    document = json.loads(response.content)
    assert document == {**document, **member}


def test_before_accept_a_wrong_parameter_is_a_422_that_points(client: TestClient) -> None:
    response = denied(client, "/before/none?number=secret")
    assert response.status_code == 422
    (error,) = json.loads(response.content)["errors"]
    assert (error["parameter"], error["code"]) == ("number", "int_parsing")
    assert b"secret" not in response.content


def test_an_unknown_path_is_a_problem(client: TestClient) -> None:
    assert denied(client, "/nowhere").status_code == 404


def test_before_accept_an_unforeseen_error_is_a_500_that_tests_see(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="secret"), client.websocket_connect("/before/boom"):
        pytest.fail("it was accepted")
    assert "ValueError in WebSocket /before/{kind}" in caplog.text


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("http", 1008, "Unauthorized"),
        ("problem", 1008, "not your room"),
        ("declared", 4409, "lobby is full"),
        ("policy", 1008, "no token"),
        ("own-code", 4404, "Not Found"),
        ("done", 1000, ""),
        ("unavailable", 1013, "Service Unavailable"),
    ],
)
def test_after_accept_the_socket_is_closed_with_the_code_that_says_it(
    client: TestClient, kind: str, code: int, reason: str
) -> None:
    with client.websocket_connect(f"/after/{kind}") as socket:
        assert socket.receive_text() == "hello"
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
    assert (caught.value.code, caught.value.reason) == (code, reason)


@pytest.mark.parametrize("path", ["/closes", "/raises"])
@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_no_frame_may_carry_is_not_sent(client: TestClient, path: str, code: int) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        client.websocket_connect(f"{path}/{code}") as socket,
    ):
        socket.receive_text()
    assert caught.value.code == 1011


@pytest.mark.parametrize("path", ["/after/long", "/long-goodbye"])
def test_a_reason_is_cut_to_what_a_close_frame_holds(client: TestClient, path: str) -> None:
    with client.websocket_connect(path) as socket:
        socket.receive_text()
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
    assert caught.value.reason == "é" * 61


def test_after_accept_an_unforeseen_error_is_1011_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with as_a_server(create_app()).websocket_connect("/after/boom") as socket:
        socket.receive_text()
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
    assert (caught.value.code, caught.value.reason) == (1011, "Internal Server Error")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["ValueError in WebSocket /after/{kind}"]


def test_after_accept_tests_see_an_unforeseen_error(client: TestClient) -> None:
    with pytest.raises(ValueError, match="secret"), client.websocket_connect("/after/boom"):
        pass


def test_a_client_that_leaves_is_no_error(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with client.websocket_connect("/after/none") as socket:
        socket.receive_text()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_client_that_leaves_a_task_group_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[BaseException] = []
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, on_error=seen.append)

    @app.websocket("/")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            group.create_task(websocket.receive_text())
            group.create_task(asyncio.Event().wait())

    events = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "asgi": {"version": "3.0"}}
    await app(scope, receive, send)
    assert sent == ["websocket.accept"]
    assert seen == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("kind", ["boom", "http"])
def test_an_error_on_a_closed_socket_is_only_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with as_a_server(create_app()).websocket_connect(f"/closed/{kind}") as socket:
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert caught.value.code == 4000
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


@pytest.mark.parametrize("problems_first", [True, False])
@pytest.mark.parametrize(
    ("error", "status"), [(HTTPException(403), 403), (RoomFullError("lobby"), 409), (ValueError("x"), 500)]
)
def test_a_middleware_may_refuse_a_socket_too(problems_first: bool, error: Exception, status: int) -> None:
    class Refusing:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise error

    app = FastAPI()
    lines: list[Any] = [ProblemMiddleware, Refusing, CORSMiddleware]
    for line in lines if problems_first else reversed(lines):
        app.add_middleware(line)
    if status == 500:
        with pytest.raises(ValueError, match="x"), TestClient(app).websocket_connect("/"):
            pytest.fail("it was accepted")
    else:
        assert denied(TestClient(app), "/").status_code == status


async def test_a_server_that_cannot_send_a_denial_closes_with_the_code() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/before/problem",
        "headers": [],
        "query_string": b"",
        "asgi": {"version": "3.0"},
    }
    await create_app()(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "not your room"}]
