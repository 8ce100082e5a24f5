"""One record per request."""

from .bodies import Bodies
from .context import RequestContextFilter, add_request_context, bind, outbound_headers, request_id
from .flight import FlightRecorder
from .formats import console, datadog, ecs, gcp, logfmt, otel
from .formatter import LineFormatter
from .metrics import otel_metrics, prometheus_metrics
from .middleware import RequestLoggingMiddleware
from .queue import QueueSink
from .record import Record
from .sinks import LoggerSink, Sink, StreamSink
from .timing import timed

__all__ = [
    "Bodies",
    "FlightRecorder",
    "LineFormatter",
    "LoggerSink",
    "QueueSink",
    "Record",
    "RequestContextFilter",
    "RequestLoggingMiddleware",
    "Sink",
    "StreamSink",
    "add_request_context",
    "bind",
    "console",
    "datadog",
    "ecs",
    "gcp",
    "logfmt",
    "otel",
    "otel_metrics",
    "outbound_headers",
    "prometheus_metrics",
    "request_id",
    "timed",
]
