"""Each preset by the names of the place that reads it, for access records and for everybody's."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from opentelemetry.metrics import Meter
from prometheus_client import CollectorRegistry

from fastapi_prodkit import RequestLoggingMiddleware, bind
from fastapi_prodkit.request_logging import (
    LineFormatter,
    LoggerSink,
    Record,
    console,
    datadog,
    ecs,
    gcp,
    logfmt,
    otel,
    otel_metrics,
    prometheus_metrics,
)

from .lines import Lines

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def _app(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, **options)

    @app.get("/items/{item_id}")
    async def get_item(item_id: int) -> str:
        bind(user="ada", note="two words")
        if item_id == 0:
            raise ValueError("none")
        return "ok"

    return app


def _line(format: Any, **options: Any) -> str:
    lines = Lines()
    app = _app(sink=lines, format=format, headers=["user-agent"], path=True, **options)
    client = TestClient(app, client=("203.0.113.9", 1))
    client.get("/items/3", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "user-agent": "test"})
    (line,) = lines.raw
    return line.decode()


def test_ecs() -> None:
    entry = json.loads(_line(ecs))
    assert entry["@timestamp"].endswith("Z")
    assert entry["log.level"] == "info"
    assert entry["http.request.method"] == "GET"
    assert entry["http.response.status_code"] == 200
    assert entry["http.response.body.bytes"] == 4
    assert entry["trace.id"] == TRACE
    assert entry["parent.id"] == "00f067aa0ba902b7"
    assert entry["user_agent.original"] == "test"
    assert entry["url.path"] == "/items/3"
    assert entry["client.address"] == "203.0.113.9"
    assert entry["user.id"] == "ada"
    assert entry["event.outcome"] == "success"
    assert entry["event.duration"] > 1000
    assert entry["ecs.version"].startswith("8.")


def test_gcp() -> None:
    entry = json.loads(_line(partial(gcp, project="shop")))
    assert entry["severity"] == "INFO"
    assert entry["time"].endswith("Z")
    assert entry["logging.googleapis.com/trace"] == f"projects/shop/traces/{TRACE}"
    assert len(entry["logging.googleapis.com/spanId"]) == 16
    request = entry["httpRequest"]
    assert request["requestMethod"] == "GET"
    assert request["status"] == 200
    assert request["responseSize"] == "4"
    assert request["remoteIp"] == "203.0.113.9"
    assert request["userAgent"] == "test"
    assert request["protocol"] == "HTTP/1.1"
    assert float(request["latency"].removesuffix("s")) > 0
    assert json.loads(_line(gcp))["logging.googleapis.com/trace"] == TRACE


def test_datadog() -> None:
    entry = json.loads(_line(datadog))
    assert entry["status"] == "info"
    assert entry["http.method"] == "GET"
    assert entry["http.status_code"] == 200
    assert entry["dd.trace_id"] == TRACE
    assert entry["network.client.ip"] == "203.0.113.9"
    assert entry["usr.id"] == "ada"
    assert entry["duration"] > 1000


def test_logfmt() -> None:
    line = _line(logfmt)
    assert " http.route=" in line
    assert ' message="GET /items/{item_id} 200"' in line
    assert ' note="two words"' in line
    assert f" trace_id={TRACE} " in line


def test_console() -> None:
    line = _line(console)
    assert "INFO     GET /items/{item_id} 200 " in line
    assert "ms id=" in line
    assert 'note="two words"' in line
    assert "\x1b" not in line
    assert "\x1b[32mINFO    \x1b[0m" in _line(partial(console, colour=True))


def test_a_format_of_one_s_own_is_a_function() -> None:
    def mine(record: Record) -> str:
        return f"{record['http.route']} \udce9 {record['http.response.status_code']}"

    assert _line(mine) == "/items/{item_id} \\udce9 200\n"


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"\xff", "\ud800", {1, 2}, Hostile(), {(1, 2): 3}, object()]
)
@pytest.mark.parametrize("format", [otel, ecs, gcp, datadog, logfmt, console])
def test_whatever_is_bound_makes_a_line(format: Any, value: Any) -> None:
    lines = Lines()
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, format=format)

    @app.get("/")
    async def endpoint() -> None:
        bind(value=value)

    TestClient(app).get("/")
    assert len(lines.raw) == 1
    if lines.raw[0].startswith(b"{"):
        json.loads(lines.raw[0], parse_constant=lambda name: pytest.fail(name))


def test_something_that_contains_itself_makes_a_line() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert json.loads(otel({"level": "INFO", "ring": ring}))["level"] == "INFO"


@pytest.fixture
def logger() -> Any:
    logger = logging.getLogger("test.formatter")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers = []


def test_everybody_s_records_have_the_same_format(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    logger.addHandler(handler)
    app = _app(sink=LoggerSink(logger))

    @app.get("/log")
    async def log() -> None:
        bind(user="ada")
        said = "it\nbro" + "ke"  # not as it stands in a line of the traceback
        try:
            raise ValueError(said)
        except ValueError:
            logger.exception("failed with %s", "care", extra={"order": 7, "request_id": "mine"})
        logger.info("fine")

    with TestClient(app) as client:
        response = client.get("/log")
    failed, fine, access = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert failed["message"] == "failed with care"
    assert (failed["level"], failed["logger"]) == ("ERROR", "test.formatter")
    assert failed["exception.type"] == "builtins.ValueError"
    assert "test_formats.py" in failed["exception.stacktrace"]
    assert "broke" not in failed["exception.stacktrace"]
    assert "exception.message" not in failed
    assert (failed["order"], failed["user.id"]) == (7, "ada")
    assert failed["request_id"] == "mine"
    assert fine["request_id"] == access["request_id"] == response.headers["x-request-id"]
    assert "exception.type" not in fine
    assert access["http.route"] == "/log"


def test_what_an_exception_says_is_written_if_asked_for(logger: logging.Logger) -> None:
    try:
        raise ValueError("it\nbroke")
    except ValueError:
        record = logger.makeRecord("shop", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    entry = json.loads(LineFormatter(exception_text=True).format(record))
    assert entry["exception.message"] == "it\nbroke"
    assert "ValueError: it\nbroke" in entry["exception.stacktrace"]


def test_a_stack_that_was_asked_for_is_written(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.addHandler(caplog.handler)
    logger.warning("how did we get here", stack_info=True)
    entry = json.loads(LineFormatter().format(caplog.records[0]))
    assert "in test_a_stack_that_was_asked_for_is_written" in entry["code.stacktrace"]


def test_outside_of_a_request_a_record_has_no_ids(logger: logging.Logger) -> None:
    record = logger.makeRecord("shop", logging.INFO, "", 0, "hello", (), None)
    entry = json.loads(LineFormatter().format(record))
    assert (entry["message"], "request_id" in entry) == ("hello", False)


def test_prometheus_counts_by_bounded_labels() -> None:
    registry = CollectorRegistry()
    app = _app(sink=Lines(), observe=[prometheus_metrics(registry)])

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    client = TestClient(app, raise_server_exceptions=False)
    for path in ("/items/1", "/items/2", "/items/0", "/a", "/b"):
        client.get(path)
    for method in ("SPAM", "EGGS"):
        client.request(method, "/items/1")
    labels = {"method": "GET", "route": "/items/{item_id}", "status": "200", "outcome": "ok"}
    name = "http_server_request_duration_seconds_count"
    assert registry.get_sample_value(name, labels) == 2
    assert registry.get_sample_value("http_server_response_body_bytes_total", labels) == 8
    failed = labels | {"status": "500", "outcome": "server_error"}
    assert registry.get_sample_value(name, failed) == 1
    unmatched = labels | {"route": "(unmatched)", "status": "404", "outcome": "client_error"}
    assert registry.get_sample_value(name, unmatched) == 2
    unknown = labels | {"method": "_OTHER", "status": "405", "outcome": "client_error"}
    assert registry.get_sample_value(name, unknown) == 2
    with client.websocket_connect("/socket") as websocket:
        websocket.receive()
    sockets = {"route": "/socket", "outcome": "ok"}
    assert registry.get_sample_value("websocket_sessions_total", sockets) == 1


class Instrument:
    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, Any]]] = []

    def record(self, amount: float, attributes: dict[str, Any]) -> None:
        self.seen.append((amount, attributes))

    add = record


def test_opentelemetry_s_metrics_have_its_names() -> None:
    made: dict[str, Instrument] = {}

    class Recorded:
        def create_histogram(self, name: str, unit: str) -> Instrument:
            return made.setdefault(name, Instrument())

        create_counter = create_histogram

    meter: Meter = Recorded()  # type: ignore[assignment] # the two methods that are used
    client = TestClient(_app(sink=Lines(), observe=[otel_metrics(meter)]), raise_server_exceptions=False)
    client.get("/items/1")
    client.get("/items/0")
    (_, ok), (_, failed) = made["http.server.request.duration"].seen
    assert ok["http.route"] == "/items/{item_id}"
    assert ok["http.response.status_code"] == 200
    assert "error.type" not in ok
    assert failed["error.type"] == "builtins.ValueError"
    assert [size for size, _ in made["http.server.response.body.size"].seen] == [4, 0]


def test_metrics_without_their_package_end_with_the_pip_line() -> None:
    script = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from fastapi_prodkit.request_logging import prometheus_metrics; prometheus_metrics()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stderr.strip().endswith("pip install 'fastapi-prodkit[metrics]'")
