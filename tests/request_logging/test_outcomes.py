"""Whatever happens to a request, it has one record, and one word says how it ended.

The app is a script of ASGI steps, the server is a double that behaves as uvicorn does, or as the
specification allows since its version 2.4, and the client leaves when it likes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from fastapi_prodkit import RequestLoggingMiddleware
from fastapi_prodkit.request_logging import Bodies

from .lines import Lines

OUTCOMES = {"ok", "client_error", "server_error", "client_disconnect", "cancelled", "incomplete"}


@pytest.fixture(autouse=True)
def noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server double sees a departure at once, so the first millisecond is no exception here."""
    monkeypatch.setattr("fastapi_prodkit.request_logging.exchange._UNNOTICED", -1.0)


@dataclass
class Server:
    """Answers `receive` and takes `send`; the client leaves before the app's step number `leaves`."""

    body: list[bytes]
    leaves: int | None
    raises: bool  # `send` raises OSError once the client has left
    step: int = 0
    complete: bool = False
    change: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def gone(self) -> bool:
        return self.leaves is not None and self.step >= self.leaves

    def advance(self) -> None:
        self.step += 1
        if self.gone:
            self.change.set()

    async def receive(self) -> Message:
        if not self.gone and not self.complete:
            if self.body:
                return {"type": "http.request", "body": self.body.pop(0), "more_body": bool(self.body)}
            await self.change.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.gone:
            if self.raises:
                raise OSError("the client left")
            return
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = True
            self.change.set()


async def _run(script: list[Any], server: Server) -> dict[str, Any]:
    lines = Lines()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in script:
            await _perform(step, receive, send)
            server.advance()

    middleware = RequestLoggingMiddleware(app, sink=lines)
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    scope["asgi"] = {"spec_version": "2.4" if server.raises else "2.3"}
    if server.body:
        scope["headers"] = [(b"content-length", b"%d" % len(b"".join(server.body)))]
    task = asyncio.create_task(middleware(scope, server.receive, server.send))
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    return lines.only


async def _perform(step: Any, receive: Receive, send: Send) -> None:
    match step:
        case ("start", int(status)):
            await send({"type": "http.response.start", "status": status, "headers": []})
        case ("chunk", int(size)):
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})
        case ("last", int(size)):
            await send({"type": "http.response.body", "body": b"x" * size})
        case "receive":
            if (await asyncio.wait_for(receive(), 0.05))["type"] == "http.disconnect":
                raise ClientDisconnect
        case "fail":
            raise ValueError("a bug")
        case "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)


def _expected(script: list[Any], server: Server) -> str:
    """The outcome by the words of the documentation, worked out without the implementation."""
    status = 0
    for number, step in enumerate(script):
        gone = server.leaves is not None and number >= server.leaves
        if step == "fail":
            return "server_error"
        if step == "cancel":
            return "client_disconnect" if gone else "cancelled"
        if step == "receive" and gone:
            return "client_disconnect"
        if step[0] == "start":
            status = step[1]
        if gone and (server.raises or step[0] == "last"):
            return "client_disconnect"
        if step[0] == "last":
            return "ok" if status < 400 else "client_error" if status < 500 else "server_error"
    gone = server.leaves is not None and len(script) >= server.leaves
    return "client_disconnect" if gone else "incomplete"


starts = st.tuples(st.just("start"), st.sampled_from([200, 204, 302, 404, 500, 503]))
chunks = st.lists(st.tuples(st.just("chunk"), st.integers(0, 9)), max_size=3)
ends = st.sampled_from([[("last", 5)], [("last", 0)], []])
accidents = st.sampled_from([[], [], ["fail"], ["cancel"]])


@st.composite
def scripts(draw: st.DrawFn) -> list[Any]:
    """A whole response, into which an accident may fall at any step, or which may stop half-way."""
    script = [draw(starts), *draw(chunks), *draw(ends)]
    where = draw(st.integers(0, len(script)))
    return script[:where] + draw(accidents) + script[where:]


@settings(max_examples=300, deadline=None)
@given(script=scripts(), leaves=st.none() | st.integers(0, 6), raises=st.booleans())
def test_every_sequence_of_events_ends_in_one_record_with_its_outcome(
    script: list[Any], leaves: int | None, raises: bool
) -> None:
    server = Server([], leaves, raises)
    record = asyncio.run(_run(script, server))
    assert record["outcome"] == _expected(script, Server([], leaves, raises)), script


@settings(max_examples=150, deadline=None)
@given(
    script=st.lists(
        st.one_of(
            starts,
            st.tuples(st.sampled_from(["chunk", "last"]), st.integers(0, 9)),
            st.sampled_from(["receive", "fail", "cancel"]),
        ),
        max_size=6,
    ),
    body=st.lists(st.binary(min_size=1, max_size=5), max_size=3),
    leaves=st.none() | st.integers(0, 6),
    raises=st.booleans(),
)
def test_even_an_app_that_breaks_the_protocol_has_one_record(
    script: list[Any], body: list[bytes], leaves: int | None, raises: bool
) -> None:
    record = asyncio.run(_run(script, Server(body, leaves, raises)))
    assert record["outcome"] in OUTCOMES


@pytest.mark.parametrize(
    ("body", "script", "size"),
    [
        ([b"ab", b"cde"], ["receive", "receive", ("start", 200), ("last", 1)], 5),
        ([b"ab", b"cde"], ["receive", ("start", 200), ("last", 1)], 2),
        ([b"ab"], [("start", 200), ("last", 1)], 0),
    ],
)
async def test_looking_for_a_departure_takes_no_part_of_the_body(
    body: list[bytes], script: list[Any], size: int
) -> None:
    server = Server(list(body), None, False)
    record = await _run(script, server)
    assert record["outcome"] == "ok"
    assert record["http.request.body.size"] == size
    assert b"".join(server.body) == b"".join(body)[size:]


async def test_what_the_look_took_is_given_to_the_app_that_receives_later() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": False})
        received.extend([await receive(), await receive()])

    queue = asyncio.Queue[Message]()
    queue.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            queue.put_nowait({"type": "http.disconnect"})

    lines = Lines()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines)(scope, queue.get, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
    assert lines.only["outcome"] == "ok"


Answer = Callable[[], Awaitable[Message]]


async def _glance(answer: Answer) -> tuple[dict[str, Any], list[Message]]:
    """The record of a whole response, and what the app receives after it."""
    lines = Lines()
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        received.append(await receive())

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines)(scope, answer, _swallow)
    return lines.only, received


async def _swallow(message: Message) -> None: ...


async def test_a_server_that_returns_a_future_loses_none_of_its_messages() -> None:
    def receive() -> Awaitable[Message]:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        future.set_result({"type": "http.request", "body": b"abc", "more_body": False})
        return future

    record, received = await _glance(receive)
    assert record["outcome"] == "ok"
    assert received[0]["body"] == b"abc"


async def test_a_server_that_raises_when_it_is_asked_says_that_the_client_left() -> None:
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("gone")
        return {"type": "http.disconnect"}

    record, _ = await _glance(receive)
    assert record["outcome"] == "client_disconnect"


async def test_in_the_first_millisecond_the_server_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_prodkit.request_logging.exchange._UNNOTICED", 60.0)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    record, _ = await _glance(receive)
    assert record["outcome"] == "ok"


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        ({"trailers": True}, [{"type": "http.response.trailers", "headers": []}]),
        ({}, [{"type": "http.response.pathsend", "path": "/file"}]),
        ({}, [{"type": "http.response.zerocopysend", "file": 0}]),
    ],
)
async def test_a_response_may_end_otherwise_than_with_a_body(
    start: dict[str, Any], rest: list[Message]
) -> None:
    lines = Lines()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], **start})
        if start:
            await send({"type": "http.response.body", "body": b"x"})
            assert lines.raw == []
        for message in rest:
            await send(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines)(scope, receive, _swallow)
    assert lines.only["outcome"] == "ok"


@pytest.mark.parametrize("options", [{}, {"bodies": Bodies(response=True)}])
@pytest.mark.parametrize(
    ("method", "extensions", "size"),
    [
        ("GET", {"http.response.pathsend": {}}, 4711),
        ("GET", {}, 4711),
        ("HEAD", {"http.response.pathsend": {}}, 0),
    ],
)
async def test_a_file_is_counted_whoever_sends_it(
    tmp_path: Path, options: Any, method: str, extensions: Any, size: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 4711)
    lines = Lines()
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, **options)
    app.add_api_route("/", lambda: FileResponse(file), methods=[method])
    sent: list[Message] = []

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
    await app({**scope, "extensions": extensions}, receive, send)
    assert (sent[1]["type"] == "http.response.pathsend") is (bool(extensions) and method == "GET")
    assert lines.only["outcome"] == "ok"
    assert lines.only["http.response.body.size"] == size


@pytest.mark.parametrize("length", [b"many", b"-1", b"\xb2"])
async def test_a_length_that_is_no_number_counts_nothing(length: bytes) -> None:
    lines = Lines()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.pathsend", "path": "/file"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines)(scope, receive, _swallow)
    assert (lines.only["outcome"], lines.only["http.response.body.size"]) == ("ok", 0)


def test_it_may_stand_around_an_app() -> None:
    lines = Lines()
    inner = FastAPI()

    @inner.get("/items/{item_id}")
    async def get_item(item_id: int) -> int:
        return item_id

    with TestClient(RequestLoggingMiddleware(inner, sink=lines)) as client:
        assert client.get("/items/3").headers["x-request-id"]
    assert lines.only["http.route"] == "/items/{item_id}"
    assert logging.getLogger("uvicorn.access").filters == []


def test_an_id_may_be_made_by_a_function() -> None:
    lines = Lines()
    app = FastAPI()
    app.add_middleware(
        RequestLoggingMiddleware, sink=lines, new_request_id=lambda: "mine", request_id_header="X-Id"
    )
    assert TestClient(app).get("/").headers["x-id"] == "mine"
    assert lines.only["request_id"] == "mine"


def test_a_coroutine_that_is_given_up_has_its_record_too() -> None:
    lines = Lines()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _Pause()

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    running: Any = RequestLoggingMiddleware(app, sink=lines)(scope, _never, _swallow)
    contextvars.Context().run(running.send, None)
    running.close()
    assert lines.only["outcome"] == "cancelled"


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _never() -> Message:
    await _Pause()
    return {}


def test_a_function_cannot_forge_a_header_by_its_id() -> None:
    lines = Lines()
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, new_request_id=lambda: "a\r\nset-cookie: b")
    response = TestClient(app).get("/")
    assert response.headers["x-request-id"] == lines.only["trace_id"]


def _fail() -> str:
    raise ValueError("no ids today")


def test_a_function_that_fails_to_make_an_id_fails_no_request() -> None:
    lines = Lines()
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, new_request_id=_fail)
    response = TestClient(app).get("/docs")
    assert response.status_code == 200
    assert response.headers["x-request-id"] == lines.only["request_id"] == lines.only["trace_id"]


def test_a_function_makes_the_id_where_a_proxy_s_is_not_well_formed() -> None:
    app = FastAPI()
    app.add_middleware(
        RequestLoggingMiddleware, sink=Lines(), new_request_id=lambda: "mine", trusted_proxies=1
    )
    client = TestClient(app)
    assert client.get("/", headers={"x-request-id": "not well formed"}).headers["x-request-id"] == "mine"
    assert client.get("/", headers={"x-request-id": "theirs"}).headers["x-request-id"] == "theirs"
