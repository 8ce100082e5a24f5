"""The default line of an ordinary request, without making its record: what half of the time goes into.

From one request of a route to the next only nine values differ. The rest of the line is kept, cut out of a
line that the format itself made, so that no field is named twice.
"""

from __future__ import annotations

import os
from json.encoder import encode_basestring_ascii
from time import time

from .._asgi import FAILURES
from .._client import TrustedProxies
from .._routes import RouteTable
from .exchange import HTTPExchange
from .formats import otel
from .record import METHODS, UNMATCHED, Recorder

__all__ = ["QuickLines"]

_VARYING = {  # in the order of the record
    "timestamp": '"%s"',
    "http.server.request.duration": "%.6f",
    "http.server.request.time_to_first_byte": "%.6f",
    "http.request.body.size": "%d",
    "http.response.body.size": "%d",
    "client.address": "%s",
    "request_id": '"%s"',
    "trace_id": '"%s"',
    "span_id": '"%s"',
}
_MOST = 4096  # shapes of lines that are kept: more than the routes of an app times their statuses

Shape = tuple[str, int | None, str, str | None, str | None]


class QuickLines:
    """Lines like those of `otel`, for exchanges that were `ok` and have nothing bound to them."""

    def __init__(self, recorder: Recorder, clients: TrustedProxies, quiet: frozenset[str]) -> None:
        self._recorder = recorder
        self._clients = clients
        self._quiet = quiet
        self._templates: dict[Shape, str] = {}

    def line(self, exchange: HTTPExchange, routes: RouteTable | None) -> bytes | None:
        """The line with its line break, or `None` for an exchange that needs its record made."""
        scope = exchange.scope
        if not exchange.complete or exchange.bound is not None or exchange.timings is not None:
            return None
        if exchange.parent_id is not None or (FAILURES in scope and exchange.failure is not None):
            return None
        route = (routes.template(scope) if routes is not None else None) or UNMATCHED
        shape = (route, exchange.status, scope["method"], scope.get("scheme"), scope.get("http_version"))
        template = self._templates.get(shape)
        if template is None:
            template = self._learn(shape, exchange, routes)
        client = self._clients.client(scope)
        if not template or (client is not None and not client.isprintable()):
            return None
        start = exchange.start
        values = (
            self._recorder.timestamp(time()),
            exchange.last_byte - start,
            (exchange.first_byte or start) - start,
            exchange.bytes_in,
            exchange.bytes_out,
            "null" if client is None else encode_basestring_ascii(client),
            exchange.request_id,
            exchange.trace_id,
            exchange.span_id,
        )
        return (template % values).encode("ascii")

    def _learn(self, shape: Shape, exchange: HTTPExchange, routes: RouteTable | None) -> str:
        """The template of this shape; empty for one that is always made the long way."""
        route, status, method, *_ = shape
        if status is None or status >= 400 or method not in METHODS or route in self._quiet:
            return ""
        record = self._recorder.record(exchange, routes)
        mark = os.urandom(8).hex()
        for name in _VARYING:
            record[name] = mark + name
        template = otel(record).decode("ascii").replace("%", "%%") + "\n"
        for name, conversion in _VARYING.items():
            template = template.replace(f'"{mark}{name}"', conversion)
        if len(self._templates) >= _MOST:
            self._templates.clear()
        self._templates[shape] = template
        return template
