"""The default line of an ordinary request, without making its record: what half of the time goes into.

From one request of a route to the next only nine values differ. The rest of the line is kept, cut out of a
line that the format itself made, so that no field is named twice.
"""

from __future__ import annotations

import os
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from time import time
from typing import Any

from .._asgi import FAILURES
from .._client import TrustedProxies
from .._fastapi import matched
from .._routes import RouteTable
from .exchange import HTTPExchange
from .formats import otel
from .record import METHODS, Recorder

__all__ = ["QuickLines"]

_VARYING = {  # in the order of the record
    "timestamp": b'"%b.%06dZ"',
    "http.server.request.duration": b"0.%06d",
    "http.server.request.time_to_first_byte": b"0.%06d",
    "http.request.body.size": b"%d",
    "http.response.body.size": b"%d",
    "client.address": b"%b",
    "request_id": b'"%b"',
    "trace_id": b'"%b"',
    "span_id": b'"%b"',
}
_MOST = 4096  # shapes of lines that are kept: more than the routes of an app times their statuses

Shape = tuple[int, int | None, str, str | None, str | None]


class QuickLines:
    """Lines like those of `otel`, for exchanges that were `ok` and have nothing bound to them."""

    def __init__(self, recorder: Recorder, clients: TrustedProxies, quiet: frozenset[str]) -> None:
        self._recorder = recorder
        self._clients = clients
        self._quiet = quiet
        self._templates: dict[Shape, tuple[bytes, Any]] = {}
        self._known: object = None  # what the templates were made with
        self._second = recorder.timestamp.second
        self._last_second = b""

    def line(self, exchange: HTTPExchange, routes: RouteTable | None) -> bytes | None:
        """The line with its line break, or `None` for an exchange that needs its record made."""
        scope = exchange.scope
        if not exchange.complete or exchange.bound is not None or exchange.timings is not None:
            return None
        if exchange.parent_id is not None or (FAILURES in scope and exchange.failure is not None):
            return None
        key = matched(exchange.inside or scope)
        shape = (id(key), exchange.status, scope["method"], scope.get("scheme"), scope.get("http_version"))
        known = self._templates.get(shape)
        template = self._learn(shape, key, exchange, routes) if known is None else known[0]
        client = _json(self._clients.client(scope))
        start = exchange.start
        took = exchange.last_byte - start
        if not template or client is None or took >= 1:
            return None
        now = time()
        second = self._second(now)
        if second is not self._last_second and self._is_outdated(second, routes):
            return None
        trace_id = exchange.trace_id
        request_id = exchange.request_id.encode("ascii")
        return template % (
            second,
            now % 1 * 1_000_000,
            took * 1_000_000,
            ((exchange.first_byte or start) - start) * 1_000_000,
            exchange.bytes_in,
            exchange.bytes_out,
            client,
            request_id,
            request_id if trace_id is exchange.request_id else trace_id.encode("ascii"),
            exchange.span_id.encode("ascii"),
        )

    def _is_outdated(self, second: bytes, routes: RouteTable | None) -> bool:
        """Once a second: whether the routes were read again, so that what was kept may be wrong by now."""
        self._last_second = second
        if routes is None:
            return False
        routes.refresh()
        if routes.known is self._known:
            return False
        self._known = routes.known
        self._templates.clear()
        return True

    def _learn(self, shape: Shape, key: Any, exchange: HTTPExchange, routes: RouteTable | None) -> bytes:
        """The template of this shape; empty for one that is always made the long way."""
        _, status, method, *_ = shape
        scope = exchange.inside or exchange.scope
        if routes is None or status is None or status >= 400 or method not in METHODS:
            return b""
        route = routes.template(scope)
        if route is None or route in self._quiet or not routes.is_one(scope):
            return b""
        record = self._recorder.record(exchange, routes)
        mark = os.urandom(8).hex()
        for name in _VARYING:
            record[name] = mark + name
        template = otel(record).replace(b"%", b"%%") + b"\n"
        for name, conversion in _VARYING.items():
            template = template.replace(f'"{mark}{name}"'.encode(), conversion)
        if len(self._templates) >= _MOST:
            self._templates.clear()
        self._templates[shape] = (template, key)  # kept alive, so that its id stays its own
        return template


@lru_cache(maxsize=4096)
def _json(client: str | None) -> bytes | None:
    """The address as the line has it; `None` for one that only the long way makes safe."""
    if client is None:
        return b"null"
    return encode_basestring_ascii(client).encode("ascii") if client.isprintable() else None
