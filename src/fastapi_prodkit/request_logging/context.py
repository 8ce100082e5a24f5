"""What is known of the request that is being served, wherever its code runs.

One context variable of the module holds it. Tasks, `asyncio.to_thread` and the framework's own threads
inherit context variables; what is bound is kept in one shared object, so that it is seen outside of the
task that bound it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

__all__ = [
    "IDS",
    "RequestContext",
    "RequestContextFilter",
    "add_request_context",
    "bind",
    "current",
    "outbound_headers",
    "request_id",
]

IDS = ("request_id", "trace_id", "span_id")


class RequestContext:
    """The ids of a request, and what was bound to it."""

    # Most requests need none of these: a default of the class costs a request nothing.
    trace_flags = "00"
    parent_id: str | None = None
    bound: dict[str, Any] | None = None
    timings: dict[str, float] | None = None
    held: deque[tuple[logging.Handler, logging.LogRecord]] | None = None
    landed = False

    def __init__(self, request_id: str, trace_id: str, span_id: str) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.span_id = span_id

    @property
    def id_header(self) -> str:
        """The header that carries the request's id."""
        return "x-request-id"

    def ids(self) -> dict[str, str]:
        return {"request_id": self.request_id, "trace_id": self.trace_id, "span_id": self.span_id}

    def fields(self) -> dict[str, Any]:
        """The ids and the bound fields, as plain data."""
        return {**self.bound, **self.ids()} if self.bound else self.ids()


current: ContextVar[RequestContext | None] = ContextVar("fastapi_prodkit.request_context", default=None)


def request_id() -> str | None:
    """The id of the request that is being served, `None` outside of one. It may be a dependency."""
    context = current.get()
    return context.request_id if context is not None else None


def bind(**fields: Any) -> None:
    """Add fields to the access record of this request, and to every record logged from here on.

    Outside of a request it does nothing. `user` is written as `user.id`, its OpenTelemetry name.
    """
    context = current.get()
    if context is not None:
        if "user" in fields:
            fields["user.id"] = fields.pop("user")
        context.bound = {**context.bound, **fields} if context.bound else fields


def outbound_headers() -> dict[str, str]:
    """The headers that carry this request's ids to a service that it calls.

    `traceparent` (W3C Trace Context, level 1) names this request as the parent. The id travels in the header
    that the middleware was given, `x-request-id` by default.
    """
    context = current.get()
    if context is None:
        return {}
    traceparent = f"00-{context.trace_id}-{context.span_id}-{context.trace_flags}"
    return {"traceparent": traceparent, context.id_header: context.request_id}


def add_request_context(
    logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: the ids and the bound fields, where the event has no such key itself."""
    context = current.get()
    if context is not None:
        for key, value in context.fields().items():
            event_dict.setdefault(key, value)
    return event_dict


class RequestContextFilter(logging.Filter):
    """Puts `request_id`, `trace_id` and `span_id` on each record that passes; it never stops one.

    For a handler in a logging configuration: it works before the app has started, and without a lifespan.
    Outside of a request they are `-`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = current.get()
        for name in IDS:
            if getattr(record, name, None) is None:
                setattr(record, name, "-" if context is None else getattr(context, name))
        return True
