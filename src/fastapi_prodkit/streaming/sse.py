"""Server-sent events: text/event-stream, as the HTML standard has it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any

from fastapi.sse import ServerSentEvent, format_sse_event
from starlette.background import BackgroundTask

from .._arguments import seconds
from ..errors import ProblemError
from .ndjson import json_bytes
from .response import StreamResponse

__all__ = ["EventStreamResponse"]


class EventStreamResponse(StreamResponse):
    """Each item is an event: `return EventStreamResponse(orders())`.

    A `fastapi.sse.ServerSentEvent` is sent with its fields, anything else as the JSON of its `data`. An
    error after the headers is told by an event named `error` that holds a problem document (RFC 9457).
    When the app stops the stream ends, and a browser connects again to the next one.

    :param items: events.
    :param heartbeat: seconds without an event after which a comment keeps proxies from closing.
    :param headers_after: seconds to wait for a first event, and for an `HTTPException` that is still an
        answer of its own, before the headers go out.
    :param send_timeout: seconds that a client may take to accept a write before it counts as gone.
    :param drain_timeout: seconds that the stream may go on when the app stops.
    """

    media_type = "text/event-stream"
    pulse = b": heartbeat\n\n"
    resumes = True

    def __init__(
        self,
        items: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        heartbeat: float = 15.0,
        headers_after: float = 0.5,
        send_timeout: float = 30.0,
        drain_timeout: float = 0.0,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(
            items,
            status_code,
            headers,
            send_timeout=send_timeout,
            drain_timeout=drain_timeout,
            background=background,
        )
        self.headers.setdefault("Cache-Control", "no-store")
        self.headers.setdefault("X-Accel-Buffering", "no")
        self.heartbeat = seconds("heartbeat", heartbeat, endless=True)
        self.headers_after = seconds("headers_after", headers_after, endless=True)

    def encoder(self) -> Callable[[Any], bytes]:
        return _event

    def ending(self, problem: ProblemError) -> bytes:
        return b"event: error\ndata: " + json_bytes(problem.document()) + b"\n\n"


def _event(item: Any) -> bytes:
    if not isinstance(item, ServerSentEvent):
        return b"data: " + json_bytes(item) + b"\n\n"
    data = item.raw_data
    if data is None and item.data is not None:
        data = json_bytes(item.data).decode()
    return format_sse_event(
        data_str=data, event=item.event, id=item.id, retry=item.retry, comment=item.comment
    )
