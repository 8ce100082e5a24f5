"""One record per request, whatever happens to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._arguments import field_name, functions, instance, names, plain_function
from .._asgi import EXCHANGE, FAILURES, Place, layers, lifespan_checked, lift, send_raises
from .._client import TrustedProxies
from .._fastapi import app_of
from .._routes import RouteTable
from .._shutdown import Shutdown
from .._startup import check_routes
from . import formats
from .bodies import Bodies, CapturingExchange
from .context import current
from .exchange import Exchange, HTTPExchange, Policy
from .flight import land
from .identity import continue_trace, join_span, read_request_id
from .process import SERVER_ACCESS_LOGGERS, ProcessHold
from .quick import QuickLines
from .record import LEVELS, Record, Recorder
from .sampling import Sampling, wants_details
from .sinks import Sink, StreamSink
from .sockets import SocketExchange
from .witness import witnessed

__all__ = ["RequestLoggingMiddleware"]

logger = logging.getLogger("fastapi_prodkit.request_logging")


class RequestLoggingMiddleware:
    """Writes one access record for each request and WebSocket, and gives each an id.

    While the app runs (from its lifespan's start to its end) the id is on every record of `logging` that is
    made during the request, and the server's own access lines are muted. Without a lifespan the process is
    left alone: the access record and the response header are there, other records need a
    `RequestContextFilter` on their handler.

    :param format: a function from a record to one line.
    :param sink: takes each line; by default it is written to `sys.stdout`.
    :param trusted_proxies: networks whose `X-Forwarded-For` and request id are believed, or how many
        proxies stand in front.
    :param request_id_header: the header that carries the id, in and out.
    :param new_request_id: makes an id where none is believed, of 1 to 128 letters, digits and `._:+/=@~-`; by
        default 128 random bits in hexadecimal.
    :param headers: request headers to write; none by default.
    :param query: query parameters to write; none by default.
    :param path: write the path as it was sent; the default is the route's template alone.
    :param bodies: what to write of bodies; none by default.
    :param sample: the share of ordinary records to write, from 0.0 to 1.0, or a function of the record; what
        failed or was slow is always written.
    :param quiet: route templates whose ordinary requests are not written.
    :param slow: seconds from which a request is always written, and its flight recorder too.
    :param observe: functions that are given every record, written or not, such as `prometheus_metrics()`.
    :param server_timing: tell the client in a `Server-Timing` header how long the app took.
    :param mute: loggers to silence while the app runs; by default the servers' access loggers.
    """

    place = Place.LOGGING

    def __init__(
        self,
        app: ASGIApp,
        *,
        format: Callable[[Record], bytes | str] = formats.otel,
        sink: Sink | None = None,
        trusted_proxies: TrustedProxies | Iterable[str] | int = (),
        request_id_header: str = "X-Request-ID",
        new_request_id: Callable[[], str] | None = None,
        headers: Iterable[str] = (),
        query: Iterable[str] = (),
        path: bool = False,
        bodies: Bodies | None = None,
        sample: float | Callable[[Record], bool] = 1.0,
        quiet: Iterable[str] = ("/health/live", "/health/ready"),
        slow: float = 1.0,
        observe: Iterable[Callable[[Record], None]] = (),
        server_timing: bool = False,
        mute: Iterable[str] = SERVER_ACCESS_LOGGERS,
    ) -> None:
        self.app = app
        self._format = plain_function("format", format)
        self._sink: Sink = StreamSink() if sink is None else plain_function("sink", sink)
        self._clients = TrustedProxies.of(trusted_proxies)
        self._recorder = Recorder(
            clients=self._clients, headers=names("headers", headers), query=names("query", query), path=path
        )
        if bodies is not None:
            instance("bodies", bodies, Bodies, "make one with Bodies()")
        self._bodies = bodies
        self._sampling = Sampling(sample=sample, quiet=names("quiet", quiet), slow=slow)
        self._observers = tuple(plain_function("observe", each) for each in functions("observe", observe))
        self._id_header = field_name("request_id_header", request_id_header)
        self._heeded = {b"transfer-encoding", b"content-length", b"traceparent", self._id_header}
        self._new_id = None if new_request_id is None else plain_function("new_request_id", new_request_id)
        self._policy: Policy | None = None
        self._server_timing = server_timing
        self._quick = (
            QuickLines(self._recorder, self._clients, self._sampling.quiet)
            if format is formats.otel
            and not (headers or query or path or bodies or observe or new_request_id)
            and self._sampling.keeps_all
            else None
        )
        self._process = ProcessHold(names("mute", mute))
        self._started = self._traced = self._open_sink = False
        self._routes: RouteTable | None = None
        self.dropped = 0  # records that a format or a sink refused since the start
        lift(app_of(app), self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._started:
            self._start(scope)
        kind = scope["type"]
        if kind not in ("http", "websocket") or EXCHANGE in scope:
            await (self._lifespan if kind == "lifespan" else self.app)(scope, receive, send)
            return
        exchange = self._open(scope, receive, send)
        scope[EXCHANGE] = exchange
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        token = current.set(exchange)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            if not exchange.done:
                exchange.end()
            if exchange.held is not None:
                self._land(exchange)
            exchange.landed = True
            exchange.error = None  # this and the marks would leave the request to the garbage collector
            exchange.inside = None
            if FAILURES in scope:
                del scope[FAILURES]
            scope.pop(EXCHANGE, None)
            try:
                current.reset(token)
            except ValueError:
                logger.debug("a request was given up: its coroutine was closed in another context")

    def _open(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        policy = self._policy or self._learn(scope)
        exchange: Exchange
        if scope["type"] == "websocket":
            exchange = SocketExchange(scope, receive, send, policy)
        elif self._bodies is None:
            exchange = HTTPExchange(scope, receive, send, policy)
        else:
            exchange = CapturingExchange(scope, receive, send, policy, self._bodies)
        given = None
        for name, _ in scope["headers"]:
            if name in self._heeded:
                given = self._heed(exchange, dict(scope["headers"]))
                break
        if given is None and self._new_id is not None:
            given = self._make_id(self._new_id)
        if given is not None:
            exchange.request_id = given
        if self._traced:
            join_span(exchange)
        return exchange

    def _heed(self, exchange: Exchange, headers: dict[bytes, bytes]) -> str | None:
        """See whether a body and a trace come with it; return the id that does, if that is believed."""
        if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
            exchange.unread = True
        if b"traceparent" in headers:
            continue_trace(exchange, headers[b"traceparent"])
        if self._id_header in headers and self._clients.trusts(exchange.scope):
            return read_request_id(headers[self._id_header])
        return None

    def _make_id(self, new_id: Callable[[], str]) -> str | None:
        """`None` where the function fails: that must not cost the request, nor its record."""
        try:
            return read_request_id(str(new_id()).encode("utf-8"))
        except Exception:
            return None

    def _learn(self, scope: Scope) -> Policy:
        """From the first request: a lifespan has a version of its own."""
        around = (layer for layer in layers(self.app) if hasattr(layer, "routes"))
        app = scope.get("app") or next(around, None)  # the second where it stands around an app
        self._routes = RouteTable(app) if app is not None else None
        self.app = witnessed(self.app)
        self._policy = Policy(self._over, self._id_header, self._server_timing, send_raises(scope))
        return self._policy

    def _over(self, exchange: Exchange) -> None:
        """Write its record. Nothing that goes wrong here may reach the client."""
        try:
            if self._quick is not None and type(exchange) is HTTPExchange:
                quick = self._quick.line(exchange, self._routes)
                if quick is not None:
                    self._sink(quick, logging.INFO)
                    return
            record = exchange.record = self._recorder.record(exchange, self._routes)
            shutdown = Shutdown.of(exchange.scope)
            if self._sampling.keeps(record, stopping=shutdown is not None and shutdown.begun):
                line = self._format(record)
                data = line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")
                self._sink(data + b"\n", LEVELS.get(record["level"], logging.INFO))
        except Exception:
            self.dropped += 1
        for observer in self._observers:
            with suppress(Exception):
                observer(exchange.record or {})

    def _land(self, exchange: Exchange) -> None:
        """A failure after the response (in a background task) counts too."""
        try:
            record = exchange.record or self._recorder.record(exchange, self._routes)
            write = exchange.failure is not None or wants_details(record, self._sampling.slow)
            land(exchange, write=write)
        except Exception:
            self.dropped += 1

    def _start(self, scope: Scope) -> None:
        """Once, at the first scope."""
        self._started = True
        self._traced = "opentelemetry.sdk" in sys.modules  # without it there is no span to be found
        if scope["type"] != "lifespan":
            logger.info(
                "the app runs without a lifespan: request ids are on access records only, "
                "unless a handler has a RequestContextFilter"
            )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app

        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._close()
            await send(message)

        self._process.take()
        self._open_sink = True
        try:
            if "app" in scope:
                await lifespan_checked(app, scope, receive, closing, check_routes)
            else:
                await app(scope, receive, closing)
        finally:
            await self._close()

    async def _close(self) -> None:
        self._process.release()
        close: Any = getattr(self._sink, "close", None)
        if close is not None and self._open_sink:
            self._open_sink = False
            try:
                await close()
            except Exception:  # the app stops all the same
                logger.exception("the sink cannot be closed")
        if self.dropped:
            logger.warning("%d access records were not written: their sink raised", self.dropped)
            self.dropped = 0
