"""The ids of a request: taken from its headers where they may be believed, made where not."""

from __future__ import annotations

import re

from .context import RequestContext

__all__ = ["continue_trace", "join_span", "read_request_id", "read_traceparent"]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@~-]{0,127}")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def read_request_id(value: bytes | None) -> str | None:
    """An inbound request id, or `None` for one that could forge a log line or fill a disk."""
    if value is None or _REQUEST_ID.fullmatch(value) is None:
        return None
    return value.decode("ascii")


def read_traceparent(value: bytes | None) -> tuple[str, str, str] | None:
    """Trace id, parent id and flags of a `traceparent` header (W3C Trace Context, 3.2), if it is valid."""
    match = _TRACEPARENT.fullmatch(value) if value is not None else None
    if match is None:
        return None
    version, trace, parent, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest) or not int(trace, 16) or not int(parent, 16):
        return None
    return trace.decode("ascii"), parent.decode("ascii"), flags.decode("ascii")


def continue_trace(context: RequestContext, traceparent: bytes) -> None:
    """Make the request a child of the span that a valid `traceparent` names.

    A trace may have many requests: this one keeps the id that it has.
    """
    parent = read_traceparent(traceparent)
    if parent is not None:
        context.trace_id, context.parent_id, context.trace_flags = parent


def join_span(context: RequestContext) -> None:
    """Take the ids of the OpenTelemetry span that is active, so that log and trace name the same one.

    FastAPI opens one for each request where a tracer provider is set, as instrumentations do.
    """
    from opentelemetry import trace

    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        context.trace_id = trace.format_trace_id(span.trace_id)
        context.span_id = trace.format_span_id(span.span_id)
        context.trace_flags = f"{span.trace_flags:02x}"
