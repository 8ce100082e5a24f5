"""One record per request."""

from .context import RequestContextFilter, add_request_context, bind, outbound_headers, request_id
from .formats import otel
from .middleware import RequestLoggingMiddleware
from .record import Record
from .sinks import Sink, StreamSink

__all__ = [
    "Record",
    "RequestContextFilter",
    "RequestLoggingMiddleware",
    "Sink",
    "StreamSink",
    "add_request_context",
    "bind",
    "otel",
    "outbound_headers",
    "request_id",
]
