"""What is written of a request: one flat mapping, by OpenTelemetry's names where it has one.

Not in it, unless asked for by name: path, query, headers, bodies, and the text of an exception. Each may
carry a secret; the route's template and the exception's type do not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import gmtime, strftime, time
from typing import Any
from urllib.parse import parse_qsl, quote

from .._client import TrustedProxies
from .._routes import RouteTable
from .exchange import Exchange

__all__ = ["LEVELS", "METHODS", "UNMATCHED", "Record", "Recorder", "Timestamps", "add_bound"]

Record = dict[str, Any]

UNMATCHED = "(unmatched)"
_MOST_PARAMETERS = 1000  # a client may send more; they cost time and are not read

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_LEVEL_OF = {
    "ok": "INFO",
    "client_error": "WARNING",
    "server_error": "ERROR",
    "client_disconnect": "INFO",
    "cancelled": "WARNING",
    "incomplete": "ERROR",
}
LEVELS = logging.getLevelNamesMapping()


class Timestamps:
    """RFC 3339 in UTC, to the microsecond; the date is formatted once a second."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def __call__(self, moment: float) -> str:
        return f"{self.second(moment).decode()}.{int(moment % 1 * 1_000_000):06d}Z"

    def second(self, moment: float) -> bytes:
        """As far as the second."""
        second = int(moment)
        if second != self._second:
            self._prefix = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode()
            self._second = second
        return self._prefix


class Recorder:
    """Makes the access record of an exchange that is over.

    :param headers: request headers to write, in lower case.
    :param query: query parameters to write.
    :param path: write the path as it was sent.
    """

    def __init__(
        self, *, clients: TrustedProxies, headers: Iterable[str], query: Iterable[str], path: bool
    ) -> None:
        self._clients = clients
        self._headers = {name.lower().encode("latin-1"): name.lower() for name in headers}
        self._query = frozenset(query)
        self._path = path
        self._asked_for = bool(self._headers or self._query or path)
        self.timestamp = Timestamps()

    def record(self, exchange: Exchange, routes: RouteTable | None) -> Record:
        scope = exchange.scope
        outcome = exchange.outcome
        route = (routes.template(exchange.inside or scope) if routes is not None else None) or UNMATCHED
        method = scope.get("method", "GET")
        if method not in METHODS:
            method = "_OTHER"
        start, first, last = exchange.start, exchange.first_byte, exchange.last_byte
        record: Record = {
            "timestamp": self.timestamp(time()),
            "level": _LEVEL_OF[outcome],
            "message": f"{method} {route} {exchange.status or '-'}",
            "event.name": "http.server.request",
            "outcome": outcome,
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": exchange.status,
            "http.server.request.duration": round(last - start, 6),
            "http.server.request.time_to_first_byte": None if first is None else round(first - start, 6),
            "http.request.body.size": exchange.bytes_in,
            "http.response.body.size": exchange.bytes_out,
            "url.scheme": scope.get("scheme"),
            "network.protocol.version": scope.get("http_version"),
            "client.address": self._clients.client(scope),
            "request_id": exchange.request_id,
            "trace_id": exchange.trace_id,
            "span_id": exchange.span_id,
        }
        if exchange.parent_id is not None:
            record["parent_span_id"] = exchange.parent_id
        if (failure := exchange.failure) is not None:
            kind = type(failure)
            record["exception.type"] = f"{kind.__module__}.{kind.__qualname__}"
        if self._asked_for:
            self._allowed(record, exchange)
        exchange.add_fields(record)
        if exchange.timings:
            record["timings"] = {name: round(spent, 6) for name, spent in exchange.timings.items()}
        if exchange.bound:
            add_bound(record, exchange.bound)
        return record

    def _allowed(self, record: Record, exchange: Exchange) -> None:
        scope = exchange.scope
        if self._path:
            raw = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
            record["url.path"] = quote(raw.partition(b"?")[0], safe="/%:@!$&'()*+,;=~-._")
        if self._query and scope.get("query_string"):
            fields = scope["query_string"].split(b"&", _MOST_PARAMETERS)[:_MOST_PARAMETERS]
            pairs = parse_qsl(b"&".join(fields).decode("latin-1"))
            kept = {name: value[:256] for name, value in pairs if name in self._query}
            if kept:
                record["url.query"] = kept
        for name, value in scope["headers"] if self._headers else ():
            if name in self._headers:
                record[f"http.request.header.{self._headers[name]}"] = value.decode("latin-1")[:1024]


def add_bound(record: Record, bound: dict[str, Any]) -> None:
    """Add what a developer bound; a name that the record has keeps its meaning, the other gets a prefix."""
    for name, value in bound.items():
        record[f"app.{name}" if name in record else name] = value
