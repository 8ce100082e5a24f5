"""Which records are written, and how much of them: sampling, quiet routes, flight recorder, bodies."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_prodkit import (
    ConfigurationError,
    Health,
    ProblemMiddleware,
    Problems,
    RequestLoggingMiddleware,
    Resources,
)
from fastapi_prodkit._shutdown import STATE_KEY
from fastapi_prodkit.request_logging import Bodies, FlightRecorder, timed

from .lines import Lines

log = logging.getLogger("shop.details")


def _app(lines: Lines, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, **options)

    @app.get("/ok")
    async def ok() -> str:
        log.debug("detail of %s", "ok")
        return "ok"

    @app.get("/health/live")
    async def live(down: bool = False) -> str:
        if down:
            raise HTTPException(503)
        return "ok"

    @app.get("/missing")
    async def missing() -> None:
        log.debug("detail of what is missing")
        raise HTTPException(404)

    @app.get("/error")
    async def error() -> None:
        for number in range(5):
            log.debug("detail %d", number)
        log.info("not a detail")
        raise ValueError

    @app.get("/late")
    async def late(tasks: BackgroundTasks) -> str:
        async def task() -> None:
            log.debug("detail of the task")
            raise ValueError

        tasks.add_task(task)
        return "ok"

    @app.get("/timed")
    async def parts() -> str:
        for _ in range(2):
            with timed("data base"):
                pass
        return "ok"

    @app.post("/body")
    async def body(request: Request) -> Any:
        await request.body()
        return {"token": "canary", "name": "ada", "items": [{"Card_Number": "canary", "n": 1}]}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, broken: bool = False) -> None:
        await websocket.accept()
        log.debug("detail of a socket")
        await websocket.send_text("x")
        if broken:
            raise ValueError
        await websocket.close()

    return app


def _client(lines: Lines, **options: Any) -> TestClient:
    return TestClient(_app(lines, **options), raise_server_exceptions=False)


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_failures_are_written_though_nothing_else_is(lines: Lines) -> None:
    client = _client(lines, sample=0.0)
    for path in ("/ok", "/error", "/nowhere", "/ok"):
        client.get(path)
    assert [record["http.route"] for record in lines.records] == ["/error", "(unmatched)"]


def test_slow_requests_are_written_though_nothing_else_is(lines: Lines) -> None:
    _client(lines, sample=0.0, slow=1e-9).get("/ok")
    assert lines.only["http.route"] == "/ok"


def test_a_share_is_taken_by_the_trace_so_that_every_service_keeps_the_same(lines: Lines) -> None:
    client = _client(lines, sample=0.25)
    for number in range(400):
        trace = f"{0x4BF92F35 + number:016x}{number * 2**64 // 400:016x}"
        client.get("/ok", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    other = Lines()
    for record in lines.records:
        traceparent = f"00-{record['trace_id']}-00f067aa0ba902b7-01"
        _client(other, sample=0.25).get("/ok", headers={"traceparent": traceparent})
    assert 60 <= len(lines.raw) <= 140
    assert len(other.raw) == len(lines.raw)
    assert {record["sample_rate"] for record in lines.records} == {0.25}


def test_a_function_may_decide(lines: Lines) -> None:
    client = _client(lines, sample=lambda record: record["http.response.body.size"] > 100)
    client.get("/ok")
    client.get("/error")
    assert lines.only["http.route"] == "/error"


def test_a_health_check_is_quiet_until_it_fails(lines: Lines) -> None:
    client = _client(lines)
    client.get("/health/live")
    client.get("/health/live?down=1")
    assert lines.only["http.response.status_code"] == 503


def test_a_probe_that_is_told_of_the_stop_makes_no_error_and_one_that_failed_before_does(
    lines: Lines,
) -> None:
    app = FastAPI(lifespan=Resources())
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    app.include_router(Health({"database": _unwell}))

    @app.get("/overloaded")
    async def overloaded() -> None:
        raise HTTPException(503)

    with TestClient(app) as client:
        client.get("/health/ready")
        client.app_state[STATE_KEY].begin()
        assert client.get("/health/ready").status_code == 503
        client.get("/overloaded")
    written = [(record["http.route"], record["level"]) for record in lines.records]
    assert written == [("/health/ready", "ERROR"), ("/overloaded", "ERROR")]


def test_a_quiet_route_that_breaks_during_the_stop_is_written(lines: Lines) -> None:
    app = FastAPI(lifespan=Resources())
    app.add_middleware(RequestLoggingMiddleware, sink=lines, quiet=["/error"])
    problems = Problems()
    problems.register(ConnectionError, status=503)
    app.add_middleware(ProblemMiddleware, problems=problems)

    @app.get("/error")
    async def error() -> None:
        raise ConnectionError

    with TestClient(app) as client:
        client.app_state[STATE_KEY].begin()
        assert client.get("/error").status_code == 503
    assert lines.only["exception.type"] == "builtins.ConnectionError"


async def _unwell() -> bool:
    return False


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    target = logging.StreamHandler(stream)
    target.setFormatter(logging.Formatter("%(message)s"))
    recorder = FlightRecorder(target, level="INFO", capacity=3)
    log.addHandler(recorder)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield stream
    log.removeHandler(recorder)
    log.propagate = True


def test_the_details_of_a_request_that_failed_are_written(lines: Lines, written: io.StringIO) -> None:
    client = _client(lines)
    client.get("/ok")
    assert written.getvalue() == ""
    client.get("/error")
    assert written.getvalue().split("\n")[:-1] == ["not a detail", "detail 2", "detail 3", "detail 4"]


def test_the_details_of_a_client_s_error_are_forgotten_though_its_record_is_kept(
    lines: Lines, written: io.StringIO
) -> None:
    _client(lines, sample=0.0).get("/missing")
    assert written.getvalue() == ""
    assert lines.only["outcome"] == "client_error"


def test_the_details_of_a_slow_client_s_error_are_written(lines: Lines, written: io.StringIO) -> None:
    _client(lines, slow=1e-9).get("/missing")
    assert written.getvalue() == "detail of what is missing\n"


def test_the_details_of_a_slow_request_are_written(lines: Lines, written: io.StringIO) -> None:
    _client(lines, slow=1e-9).get("/ok")
    assert written.getvalue() == "detail of ok\n"


def test_the_details_of_a_background_task_that_failed_are_written(lines: Lines, written: io.StringIO) -> None:
    _client(lines).get("/late")
    assert written.getvalue() == "detail of the task\n"
    assert lines.only["outcome"] == "ok"


class Detail:
    """Says whether somebody keeps it."""


@pytest.mark.parametrize("path", ["/error", "/ok", "/silent"])
async def test_what_is_logged_after_the_request_is_neither_written_nor_kept(
    path: str, lines: Lines, written: io.StringIO
) -> None:
    over, told = asyncio.Event(), asyncio.Event()
    tasks = []
    app = _app(lines)
    late = logging.Logger("late")  # unknown to pytest, which keeps the records of those it knows
    late.handlers = [each for each in log.handlers if isinstance(each, FlightRecorder)]

    async def outlive() -> None:
        await over.wait()
        detail = Detail()
        kept.append(weakref.ref(detail))
        late.debug("late %s", detail)
        late.info("late, and no detail")
        del detail
        gc.collect()
        told.set()
        await asyncio.Future()

    class Outlived:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            tasks.append(asyncio.create_task(outlive()))
            await self.app(scope, receive, send)

    kept: list[weakref.ref[Detail]] = []
    app.add_middleware(Outlived)
    app.get("/silent")(lambda: "nothing logged")
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get(path)
    before = written.getvalue()
    over.set()
    await told.wait()
    assert written.getvalue().removeprefix(before) == "late, and no detail\n"
    assert kept[0]() is None
    tasks[0].cancel()


@pytest.mark.parametrize(
    ("path", "remarkable"), [("/socket", False), ("/socket?broken=1", True)], ids=["ok", "broken"]
)
def test_a_socket_is_not_slow_because_it_was_open_for_long(
    path: str, remarkable: bool, lines: Lines, written: io.StringIO
) -> None:
    client = _client(lines, sample=0.0, slow=1e-9)
    with contextlib.suppress(ValueError), client.websocket_connect(path) as socket:
        socket.receive_text()
    assert len(lines.raw) == remarkable
    assert written.getvalue() == "detail of a socket\n" * remarkable


def test_outside_of_a_request_details_are_forgotten(written: io.StringIO) -> None:
    log.debug("nobody asks")
    log.warning("somebody should know")
    assert written.getvalue() == "somebody should know\n"


def test_parts_are_timed_and_told_to_the_client_if_wanted(lines: Lines) -> None:
    response = _client(lines, server_timing=True).get("/timed")
    total, part = response.headers["server-timing"].split(", ")
    assert total.startswith("app;dur=")
    assert part.startswith("data_base;dur=")
    assert lines.only["timings"]["data base"] >= 0
    assert "server-timing" not in _client(lines).get("/timed").headers


def test_a_body_is_written_without_its_secrets(lines: Lines) -> None:
    body = {"name": "ada", "PassWord": "canary", "nested": [{"api_key": "canary", "iban": "canary"}]}
    _client(lines, bodies=Bodies(response=True, redact=["IBAN"])).post("/body", json=body)
    record = lines.only
    assert record["http.request.body.content"] == {
        "name": "ada",
        "PassWord": "[redacted]",
        "nested": [{"api_key": "[redacted]", "iban": "[redacted]"}],
    }
    assert record["http.response.body.content"]["items"] == [{"Card_Number": "[redacted]", "n": 1}]
    assert b"canary" not in lines.raw[0]


@pytest.mark.parametrize(
    "name", ["cardNumber", "privateKey", "Api-Key", "apiKey", "user password", "ibanCode", "IBAN-code"]
)
def test_a_secret_is_known_however_its_name_is_spelled(lines: Lines, name: str) -> None:
    client = _client(lines, bodies=Bodies(redact=["iban_code"]))
    client.post("/body", json={"nested": [{name: "canary"}], "kept": "yes"})
    assert lines.only["http.request.body.content"] == {"nested": [{name: "[redacted]"}], "kept": "yes"}


def test_a_form_is_written_without_its_secrets(lines: Lines) -> None:
    _client(lines, bodies=Bodies()).post("/body", data={"user": "ada", "password": "canary"})
    assert lines.only["http.request.body.content"] == {"user": "ada", "password": "[redacted]"}
    assert "http.response.body.content" not in lines.only


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"password": "canary", "more": "' + b"x" * 50 + b'"}', "application/json"),
        (b'{"password": "canary"', "application/json"),
        (b"[" * 40, "application/json"),
        (b"password=canary", "text/plain"),
        (b"\xffpassword=canary", "application/x-www-form-urlencoded"),
        (b"", "application/json"),
    ],
)
def test_a_body_that_cannot_be_searched_for_secrets_is_not_written(
    lines: Lines, content: bytes, kind: str
) -> None:
    client = _client(lines, bodies=Bodies(limit=60))
    client.post("/body", content=content, headers={"content-type": kind})
    assert "http.request.body.content" not in lines.only
    assert lines.only["http.request.body.size"] == len(content)


@pytest.mark.parametrize("more_body", [True, False])
async def test_a_form_is_written_only_if_the_app_read_it_to_its_end(lines: Lines, more_body: bool) -> None:
    """The name of a secret field may be in the part that was not read."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"user=ada&canary", "more_body": more_body}

    async def send(message: Message) -> None: ...

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines, bodies=Bodies())(scope, receive, send)
    written = {} if more_body else {"http.request.body.content": {"user": "ada", "canary": ""}}
    assert {name: lines.only[name] for name in lines.only if name.endswith("content")} == written


async def test_a_response_that_broke_off_is_not_written(lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"user=ada&canary", "more_body": True})

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None: ...

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    await RequestLoggingMiddleware(app, sink=lines, bodies=Bodies(response=True))(scope, receive, send)
    assert lines.only["outcome"] == "incomplete"
    assert b"canary" not in lines.raw[0]


def test_an_observer_is_given_every_record_and_may_fail(lines: Lines) -> None:
    seen: list[Any] = []

    def broken(record: Any) -> None:
        raise RuntimeError

    client = _client(lines, observe=[broken, seen.append], sample=0.0)
    assert client.get("/ok").status_code == 200
    assert (len(seen), len(lines.raw)) == (1, 0)


async def _never_awaited(*arguments: Any) -> Any: ...


class NeverAwaited:
    async def __call__(self, *arguments: Any) -> Any: ...


@pytest.mark.parametrize(
    "options",
    [
        {"sample": 1.5},
        {"sample": -0.1},
        {"slow": 0},
        {"quiet": "/health"},
        {"headers": "user-agent"},
        {"query": "page"},
        {"mute": "uvicorn.access"},
        {"format": "json"},
        {"sink": "stdout"},
        {"request_id_header": "X Request"},
        {"trusted_proxies": ["everybody"]},
        {"observe": len},
        {"sink": _never_awaited},
        {"sink": NeverAwaited()},
        {"format": _never_awaited},
        {"observe": [_never_awaited]},
        {"sample": _never_awaited},
        {"new_request_id": _never_awaited},
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RequestLoggingMiddleware(FastAPI(), **options)


@pytest.mark.parametrize("options", [{"limit": 0}, {"redact": "iban"}])
def test_bodies_that_cannot_be_meant_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Bodies(**options)


def test_a_flight_recorder_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="capacity"):
        FlightRecorder(logging.NullHandler(), capacity=0)


def test_every_line_is_json_by_default(lines: Lines) -> None:
    _client(lines).get("/ok")
    assert json.loads(lines.raw[0])
