"""Metrics out of access records, with labels that no client can multiply.

The labels are the method (one of the known ones), the route's template, the status and the outcome. Give
what these functions return to `observe=`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .record import Record

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from prometheus_client import CollectorRegistry

__all__ = ["otel_metrics", "prometheus_metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def prometheus_metrics(
    registry: CollectorRegistry | None = None, *, buckets: Sequence[float] = _SECONDS
) -> Callable[[Record], None]:
    """Count requests, their seconds and bytes, and WebSockets, in a registry of prometheus-client.

    :param registry: by default the process's own; make it once, a second time the names are taken.
    :param buckets: the upper bounds of the duration's buckets, in seconds.
    :raises MissingExtraError: if prometheus-client is not installed.
    """
    try:
        from prometheus_client import REGISTRY, Counter, Histogram
    except ImportError:
        raise MissingExtraError("prometheus-client", "metrics") from None
    where = REGISTRY if registry is None else registry
    labels = ["method", "route", "status", "outcome"]
    duration = Histogram(
        "http_server_request_duration_seconds",
        "Seconds from a request to the last byte of its response.",
        labels,
        buckets=buckets,
        registry=where,
    )
    received = Counter("http_server_request_body_bytes", "Bytes of request bodies.", labels, registry=where)
    sent = Counter("http_server_response_body_bytes", "Bytes of response bodies.", labels, registry=where)
    sockets = Counter(
        "websocket_sessions", "WebSockets that have ended.", ["route", "outcome"], registry=where
    )

    def observe(record: Record) -> None:
        route, outcome = record["http.route"], record["outcome"]
        if record["event.name"] == "websocket.session":
            sockets.labels(route, outcome).inc()
            return
        values = (record["http.request.method"], route, _status(record), outcome)
        duration.labels(*values).observe(record["http.server.request.duration"])
        received.labels(*values).inc(record["http.request.body.size"])
        sent.labels(*values).inc(record["http.response.body.size"])

    return observe


def otel_metrics(meter: Meter) -> Callable[[Record], None]:
    """The HTTP server metrics of OpenTelemetry's semantic conventions, made with your `meter`.

    FastAPI measures these itself where a global meter provider is set: use this where it does not.
    """
    duration = meter.create_histogram("http.server.request.duration", unit="s")
    received = meter.create_histogram("http.server.request.body.size", unit="By")
    sent = meter.create_histogram("http.server.response.body.size", unit="By")
    sockets = meter.create_counter("websocket.sessions", unit="{session}")

    def observe(record: Record) -> None:
        if record["event.name"] == "websocket.session":
            sockets.add(1, {"http.route": record["http.route"], "outcome": record["outcome"]})
            return
        attributes: dict[str, Any] = {
            "http.request.method": record["http.request.method"],
            "http.route": record["http.route"],
            "outcome": record["outcome"],
        }
        if record["http.response.status_code"] is not None:
            attributes["http.response.status_code"] = record["http.response.status_code"]
        if record["level"] == "ERROR":
            attributes["error.type"] = record.get("exception.type", _status(record))
        duration.record(record["http.server.request.duration"], attributes)
        received.record(record["http.request.body.size"], attributes)
        sent.record(record["http.response.body.size"], attributes)

    return observe


def _status(record: Record) -> str:
    return str(record["http.response.status_code"] or "-")
