"""One JSON line per request, with a request id, to a stream that costs one write."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_prodkit import RequestLoggingMiddleware
from fastapi_prodkit.request_logging import LoggerSink, QueueSink, StreamSink

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from ..work import small
from .rate_limit import bare, prebuilt


async def check(build: Build, rig: Rig) -> None:
    """One request makes one JSON line that names the method, the path and the status."""
    async with opened(build(rig)) as client:
        await client.ask()
        await asyncio.sleep(0.05)  # for a line that a thread writes
        rig.tape.record()
        try:
            await client.ask()
            await asyncio.sleep(0.05)
        finally:
            lines = rig.tape.stop()
    assert len(lines) == 1, f"one request makes {len(lines)} lines"
    text = json.dumps(json.loads(lines[0]))
    assert "GET" in text, f"no method in {text}"
    assert "200" in text, f"no status in {text}"


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> dict[str, str]:
        return small()

    return app


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(entry)


def _logger(name: str, rig: Rig, *filters: logging.Filter) -> logging.Logger:
    handler = logging.StreamHandler(rig.tape)
    handler.setFormatter(_JSONFormatter())
    for each in filters:
        handler.addFilter(each)
    logger = logging.getLogger(f"benchmarks.{name}")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


def ours(rig: Rig) -> FastAPI:
    app = _app()
    app.add_middleware(RequestLoggingMiddleware, sink=StreamSink(rig.tape))
    return app


def ours_by_handlers(rig: Rig) -> FastAPI:
    logger = logging.getLogger("benchmarks.ours")
    logger.handlers = [logging.StreamHandler(rig.tape)]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    app = _app()
    app.add_middleware(RequestLoggingMiddleware, sink=LoggerSink(logger))
    return app


def ours_queued(rig: Rig) -> FastAPI:
    app = _app()
    app.add_middleware(RequestLoggingMiddleware, sink=QueueSink(StreamSink(rig.tape), capacity=100_000))
    return app


class _UvicornLine:
    """What uvicorn does for its access line, by its own formatter."""

    def __init__(self, app: ASGIApp, rig: Rig) -> None:
        from uvicorn.logging import AccessFormatter

        self.app = app
        handler = logging.StreamHandler(rig.tape)
        handler.setFormatter(
            AccessFormatter('%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s')
        )
        self._logger = logging.getLogger("benchmarks.uvicorn")
        self._logger.handlers = [handler]
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._logger.info(
                    '%s - "%s %s HTTP/%s" %d',
                    get_client_addr(scope),  # type: ignore[arg-type] # its own kind of the same scope
                    scope["method"],
                    get_path_with_query_string(scope),  # type: ignore[arg-type] # likewise
                    scope["http_version"],
                    message["status"],
                )
            await send(message)

        await self.app(scope, receive, send if scope["type"] != "http" else logged)


def uvicorn_line(rig: Rig) -> FastAPI:
    app = _app()
    app.add_middleware(_UvicornLine, rig=rig)
    return app


def _streaming(app: FastAPI) -> FastAPI:
    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield b"x" * 100

        return StreamingResponse(chunks())

    return app


async def check_stream(build: Build, rig: Rig) -> None:
    """The whole stream arrives, and its line says a status of 200."""
    async with opened(build(rig), path="/stream") as client:
        await client.ask()
        rig.tape.record()
        try:
            answer = await client.ask()
        finally:
            lines = rig.tape.stop()
    assert len(answer.body) == 100_000, f"{len(answer.body)} bytes of 100,000"
    assert len(lines) == 1, f"one request makes {len(lines)} lines"
    assert "200" in lines[0], f"no status in {lines[0]}"


def _tutorial(app: FastAPI, logger: logging.Logger) -> FastAPI:
    @app.middleware("http")
    async def log(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        fields = {
            "method": request.method,
            "path": request.url.path,
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - started) * 1000, 3),
        }
        logger.info("request", extra={"fields": fields})
        return response

    return app


def tutorial(rig: Rig) -> FastAPI:
    return _tutorial(_app(), _logger("tutorial", rig))


def correlation_id(rig: Rig) -> FastAPI:
    from asgi_correlation_id import CorrelationIdFilter, CorrelationIdMiddleware

    app = _tutorial(_app(), _logger("correlation", rig, CorrelationIdFilter()))
    app.add_middleware(CorrelationIdMiddleware)
    return app


def structlog(rig: Rig) -> FastAPI:
    import structlog

    stream: Any = rig.tape
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
    )
    app = _app()

    @app.middleware("http")
    async def log(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        import uuid

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=uuid.uuid4().hex)
        started = time.perf_counter()
        response = await call_next(request)
        logger.info(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
        )
        return response

    return app


def structured_logging(rig: Rig) -> FastAPI:
    from fastapi_structured_logging import AccessLogMiddleware, setup_logging

    logging.getLogger().handlers = []
    setup_logging(json_logs=True)
    for handler in logging.getLogger().handlers:
        # its own loggers reach the root, which toolsets takes too: give it a logger of its own
        logging.getLogger("access_log").handlers = [handler]
    logging.getLogger("access_log").propagate = False
    logging.getLogger("access_log").setLevel(logging.INFO)
    logging.getLogger().handlers = []
    app = _app()
    app.add_middleware(AccessLogMiddleware)
    return app


def toolsets(rig: Rig) -> FastAPI:
    from fastapi_toolsets.logger import RequestLoggingMiddleware, configure_logging

    logging.getLogger().handlers = []
    configure_logging(style="json", otel=False)
    name = "fastapi_toolsets.access"
    logging.getLogger(name).handlers = logging.getLogger().handlers
    logging.getLogger(name).propagate = False
    logging.getLogger().handlers = []
    app = _app()
    app.add_middleware(RequestLoggingMiddleware)
    return app


def prodkit(rig: Rig) -> FastAPI:
    from prodkit import Production

    app = _app()
    rest = (
        "errors",
        "health",
        "security",
        "cors",
        "compression",
        "rate_limit",
        "metrics",
        "cache",
        "tracing",
    )
    Production(app, logging=True, request_id=True, **dict.fromkeys(rest, False))
    return app


_TEXT = (
    "One JSON line per request with method, path, status and duration, written to the null device; "
    "an endpoint that returns a small dictionary."
)

_SERVED = (
    "Real processes over HTTP, eight connections that stay open, as it runs in production: what uvicorn "
    "takes for a request is part of what is timed."
)

SUITES = [
    Suite(
        name="request-logging",
        title="Request logging",
        text=_TEXT,
        contenders=[
            Contender(BARE, bare, note="no line", yardstick=True),
            Contender(LIMIT, prebuilt, note="no line", yardstick=True),
            Contender("RequestLoggingMiddleware", ours, note="every field, an id on every record"),
            Contender(
                "RequestLoggingMiddleware, LoggerSink",
                ours_by_handlers,
                note="the same through a handler of logging",
            ),
            Contender(
                "RequestLoggingMiddleware, QueueSink", ours_queued, note="the same, written by a thread"
            ),
            Contender("uvicorn's access line", uvicorn_line, "uvicorn", "what we replace", yardstick=True),
            Contender("a tutorial's `@app.middleware`", tutorial, note="json and logging, no request id"),
            Contender(
                "asgi-correlation-id", correlation_id, "asgi-correlation-id", "with the tutorial's line"
            ),
            Contender("structlog, its recipe", structlog, "structlog"),
            Contender("fastapi-toolsets", toolsets, "fastapi-toolsets"),
            Contender("fastapi-structured-logging", structured_logging, "fastapi-structured-logging"),
            Contender("prodkit", prodkit, "prodkit"),
        ],
        check=check,
    ),
    Suite(
        name="request-logging-stream",
        title="Request logging, a stream",
        text="A response of 1,000 chunks of 100 bytes, and its line.",
        contenders=[
            Contender(BARE, lambda rig: _streaming(bare(rig)), note="no line", yardstick=True),
            Contender(LIMIT, lambda rig: _streaming(bare(rig)), note="the same", yardstick=True),
            Contender("RequestLoggingMiddleware", lambda rig: _streaming(ours(rig))),
            Contender("a tutorial's `@app.middleware`", lambda rig: _streaming(tutorial(rig))),
            Contender("fastapi-toolsets", lambda rig: _streaming(toolsets(rig)), "fastapi-toolsets"),
            Contender(
                "fastapi-structured-logging",
                lambda rig: _streaming(structured_logging(rig)),
                "fastapi-structured-logging",
            ),
        ],
        check=check_stream,
        request={"path": "/stream"},
    ),
    Suite(
        name="request-logging-served",
        title="Request logging, under uvicorn",
        text=_SERVED,
        contenders=[
            Contender(BARE, bare, note="no line", yardstick=True),
            Contender(LIMIT, prebuilt, note="no line", yardstick=True),
            Contender("RequestLoggingMiddleware", ours),
            Contender("RequestLoggingMiddleware, LoggerSink", ours_by_handlers),
            Contender("uvicorn's access line", bare, "uvicorn", access_log=True, yardstick=True),
        ],
        check=check,
        served=True,
        at_once=8,
    ),
    Suite(
        name="request-logging-stream-served",
        title="Request logging, a stream, under uvicorn",
        text=_SERVED + " A response of 1,000 chunks of 100 bytes, and its line.",
        contenders=[
            Contender(BARE, lambda rig: _streaming(bare(rig)), note="no line", yardstick=True),
            Contender(LIMIT, lambda rig: _streaming(bare(rig)), note="the same", yardstick=True),
            Contender("RequestLoggingMiddleware", lambda rig: _streaming(ours(rig))),
        ],
        check=check_stream,
        request={"path": "/stream"},
        served=True,
        at_once=8,
    ),
]
