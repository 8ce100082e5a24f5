"""The request's id on every record that anybody makes during the request, and what was bound."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
import structlog
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from opentelemetry import trace
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Receive, Scope, Send

from fastapi_prodkit import RequestLoggingMiddleware, bind, request_id
from fastapi_prodkit.request_logging import (
    RequestContextFilter,
    add_request_context,
    outbound_headers,
)

from .lines import Lines

log = logging.getLogger("shop")


class Collected(logging.Handler):
    """Formats at once, as a handler that writes does."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[str] = []
        self.records: list[Any] = []
        self.setFormatter(logging.Formatter("%(message)s %(request_id)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.seen.append(self.format(record))


@pytest.fixture
def collected() -> Iterator[Collected]:
    handler = Collected()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)


@pytest.fixture
def lines() -> Lines:
    return Lines()


class DomainError(Exception):
    pass


async def async_dependency() -> None:
    log.info("async-dependency")


def sync_dependency() -> None:
    log.info("sync-dependency")


async def in_a_task() -> None:
    log.info("create-task")


def _app(lines: Lines) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)

    @app.exception_handler(DomainError)
    async def handle(request: Request, error: DomainError) -> JSONResponse:
        log.info("exception-handler")
        return JSONResponse({}, 409)

    @app.middleware("http")
    async def tutorial(request: Request, call_next: Any) -> Any:
        log.info("middleware")
        return await call_next(request)

    @app.get("/async", dependencies=[Depends(async_dependency), Depends(sync_dependency)])
    async def endpoint(tasks: BackgroundTasks) -> str:
        await asyncio.create_task(in_a_task())
        await asyncio.to_thread(log.info, "to-thread")
        await asyncio.get_running_loop().run_in_executor(None, log.info, "run-in-executor")
        tasks.add_task(log.info, "sync-background")
        tasks.add_task(in_a_task)
        return "ok"

    @app.get("/sync")
    def sync_endpoint() -> None:
        log.info("sync-endpoint")
        raise DomainError

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        log.info("socket")
        await websocket.close()

    @app.get("/bind")
    async def bound() -> dict[str, str]:
        bind(user="ada", tenant="acme", outcome="mine")
        await asyncio.create_task(bind_more())
        log.info("bound", extra={"request_id": "mine"})
        return outbound_headers()

    @app.get("/id")
    async def identity(id: Annotated[str, Depends(request_id)], request: Request) -> list[str]:
        return [id, request.state.request_id]

    return app


async def bind_more() -> None:
    bind(late=True)


@pytest.fixture
def client(lines: Lines) -> Iterator[TestClient]:
    with TestClient(_app(lines)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "places"),
    [
        (
            "/async",
            "middleware async-dependency sync-dependency create-task to-thread run-in-executor "
            "sync-background create-task",
        ),
        ("/sync", "middleware sync-endpoint exception-handler"),
    ],
)
def test_every_record_of_a_request_has_its_id(
    client: TestClient, collected: Collected, path: str, places: str
) -> None:
    response = client.get(path)
    assert collected.seen == [f"{place} {response.headers['x-request-id']}" for place in places.split()]


def test_a_record_made_in_a_socket_has_the_id_of_its_handshake(
    client: TestClient, collected: Collected, lines: Lines
) -> None:
    with client.websocket_connect("/socket") as websocket:
        websocket.receive()
        headers: Any = websocket.extra_headers
    assert dict(headers)[b"x-request-id"].decode() == lines.only["request_id"]
    assert collected.seen == [f"socket {lines.only['request_id']}"]


def test_concurrent_requests_do_not_share_an_id(client: TestClient, collected: Collected) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = {response.headers["x-request-id"] for response in pool.map(client.get, ["/async"] * 8)}
    assert len(ids) == 8
    for each in ids:
        assert sum(line.endswith(each) for line in collected.seen) == 8


def test_what_is_bound_is_in_the_access_record_wherever_it_was_bound(
    client: TestClient, lines: Lines
) -> None:
    client.get("/bind")
    record = lines.only
    assert (record["user.id"], record["tenant"], record["late"]) == ("ada", "acme", True)
    assert (record["outcome"], record["app.outcome"]) == ("ok", "mine")


def test_an_extra_of_the_same_name_wins_and_does_not_fail(client: TestClient, collected: Collected) -> None:
    assert client.get("/bind").status_code == 200
    assert collected.seen[-1] == "bound mine"


def test_the_ids_travel_to_a_service_that_is_called(client: TestClient, lines: Lines) -> None:
    headers = client.get("/bind").json()
    record = lines.only
    assert headers["x-request-id"] == record["request_id"]
    assert headers["traceparent"] == f"00-{record['trace_id']}-{record['span_id']}-00"


def test_a_trace_travels_on_with_its_flags_and_this_request_as_the_parent(
    client: TestClient, lines: Lines
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = client.get("/bind", headers={"traceparent": f"00-{trace}-{parent}-01"}).json()
    assert headers["traceparent"] == f"00-{trace}-{lines.only['span_id']}-01"
    assert lines.only["span_id"] != parent


def test_the_id_travels_in_the_header_that_was_chosen(lines: Lines) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, request_id_header="X-Correlation-ID")

    @app.get("/")
    async def call() -> dict[str, str]:
        return outbound_headers()

    response = TestClient(app).get("/")
    assert response.json()["x-correlation-id"] == response.headers["x-correlation-id"]
    assert "x-request-id" not in response.json()


def test_the_id_is_a_dependency_and_on_the_request_s_state(client: TestClient, lines: Lines) -> None:
    response = client.get("/id")
    assert response.json() == [lines.only["request_id"]] * 2


def test_outside_of_a_request_there_is_nothing(collected: Collected) -> None:
    bind(user="ada")
    assert request_id() is None
    assert outbound_headers() == {}
    assert add_request_context(None, "info", {"event": "x"}) == {"event": "x"}
    with TestClient(_app(Lines())):
        log.info("started")
    assert collected.seen == ["started -"]


def test_structlog_has_the_ids_and_what_was_bound(lines: Lines) -> None:
    with structlog.testing.capture_logs(processors=[add_request_context]) as captured:
        app = _app(lines)

        @app.get("/structlog")
        async def endpoint() -> None:
            bind(user="ada")
            structlog.get_logger().info("hello", trace_id="mine")

        TestClient(app).get("/structlog")
    assert captured[0]["request_id"] == lines.only["request_id"]
    assert (captured[0]["user.id"], captured[0]["trace_id"]) == ("ada", "mine")


def test_a_handler_with_the_filter_needs_no_lifespan(lines: Lines, collected: Collected) -> None:
    collected.addFilter(RequestContextFilter())
    log.info("before")
    response = TestClient(_app(lines)).get("/sync")
    assert collected.seen[0] == "before -"
    assert collected.seen[-1] == f"exception-handler {response.headers['x-request-id']}"


def test_a_record_survives_pickling_with_its_id(client: TestClient, collected: Collected) -> None:
    response = client.get("/sync")
    record: Any = collected.records[-1]
    revived = pickle.loads(pickle.dumps(record))
    assert revived.request_id == record.request_id == response.headers["x-request-id"]


def test_an_app_puts_back_what_it_changed_in_the_process() -> None:
    access = logging.getLogger("uvicorn.access")
    handler = logging.NullHandler()
    access.addHandler(handler)
    before = _process_state()
    try:
        with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
            first.enter_context(TestClient(_app(Lines())))
            second.enter_context(TestClient(_app(Lines())))
            assert not access.hasHandlers()
            first.close()
            assert not access.hasHandlers(), "the second app still runs"
            second.close()
            assert _process_state() == before
    finally:
        access.removeHandler(handler)


def _process_state() -> list[Any]:
    access, error = logging.getLogger("uvicorn.access"), logging.getLogger("uvicorn.error")
    state = [logging.getLogRecordFactory(), list(access.handlers), access.propagate]
    return [*state, list(access.filters), list(error.filters)]


@pytest.mark.parametrize("propagates", [True, False])
def test_a_server_s_access_lines_are_muted_while_the_app_runs_and_no_longer(
    propagates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, root, late = io.StringIO(), io.StringIO(), io.StringIO()
    access = logging.getLogger("uvicorn.access")
    for name, value in (("handlers", [logging.StreamHandler(own)]), ("filters", []), ("level", logging.INFO)):
        monkeypatch.setattr(access, name, value)
    monkeypatch.setattr(access, "propagate", propagates)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(root)])
    access.info("before")
    with TestClient(_app(Lines())):
        access.critical("during")
        access.addHandler(logging.StreamHandler(late))
        access.critical("during, though somebody added a handler")
    access.info("after")
    assert own.getvalue() == "before\nafter\n"
    assert root.getvalue() == "before\nafter\n" * propagates
    assert late.getvalue() == "after\n"


def test_somebody_else_s_record_factory_is_kept(lines: Lines, collected: Collected) -> None:
    previous = logging.getLogRecordFactory()

    def theirs(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = previous(*arguments, **options)
        record.theirs = True
        return record

    logging.setLogRecordFactory(theirs)
    try:
        with TestClient(_app(lines)) as client:
            response = client.get("/sync")
        assert logging.getLogRecordFactory() is theirs
    finally:
        logging.setLogRecordFactory(previous)
    assert collected.records[-1].theirs is True
    assert collected.seen[-1].endswith(response.headers["x-request-id"])


def test_records_of_somebody_else_s_class_have_the_id_too(lines: Lines, collected: Collected) -> None:
    class Theirs(logging.LogRecord):
        def getMessage(self) -> str:  # noqa: N802 -- the name is logging's
            return f"theirs {super().getMessage()}"

    previous = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Theirs)
    try:
        with TestClient(_app(lines)) as client:
            response = client.get("/sync")
        assert logging.getLogRecordFactory() is Theirs
    finally:
        logging.setLogRecordFactory(previous)
    assert isinstance(collected.records[-1], Theirs)
    assert collected.seen[-1] == f"theirs exception-handler {response.headers['x-request-id']}"


def test_basehttpmiddleware_around_us_changes_nothing(lines: Lines, collected: Collected) -> None:
    app = _app(lines)
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    with TestClient(app) as client:
        response = client.get("/sync")
    assert collected.seen[0] == f"middleware {response.headers['x-request-id']}"
    assert lines.only["http.response.status_code"] == 409


def test_an_active_span_of_opentelemetry_gives_its_ids(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", sys)
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, False, trace.TraceFlags(1)))
    app = _app(lines)

    async def instrumented(scope: Scope, receive: Receive, send: Send) -> None:
        with trace.use_span(span):
            await app(scope, receive, send)

    headers = TestClient(instrumented).get("/bind").json()
    assert lines.only["trace_id"] == f"{0xABC:032x}"
    assert lines.only["span_id"] == f"{0xDEF:016x}"
    assert headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    TestClient(app).get("/bind")
    assert lines.records[1]["trace_id"] != lines.records[0]["trace_id"]


def test_an_app_without_a_lifespan_is_told_what_it_misses(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = TestClient(_app(lines))
    client.get("/id")
    client.get("/id")
    assert caplog.text.count("without a lifespan") == 1
    with TestClient(_app(lines)) as client:
        client.get("/id")
    assert caplog.text.count("without a lifespan") == 1
