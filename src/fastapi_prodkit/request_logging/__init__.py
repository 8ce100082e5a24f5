"""One record per request."""

from .bodies import Bodies
from .context import RequestContextFilter, add_request_context, bind, outbound_headers, request_id
from .flight import FlightRecorder
from .formats import console, datadog, ecs, gcp, logfmt, otel
from .middleware import RequestLoggingMiddleware
from .queue import QueueSink
from .record import Record
from .sinks import LoggerSink, Sink, StreamSink
from .timing import timed

__all__ = [
    "Bodies",
    "FlightRecorder",
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
    "outbound_headers",
    "request_id",
    "timed",
]
