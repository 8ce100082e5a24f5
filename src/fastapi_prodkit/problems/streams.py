"""What can still be said when a response has started: a last event, a last line, or nothing."""

from __future__ import annotations

from .answers import Answer
from .progress import END, Response
from .rendering import encode

__all__ = ["last_words"]

_LINES = frozenset(
    {b"application/jsonl", b"application/x-ndjson", b"application/ndjson", b"application/x-jsonlines"}
)


def last_words(response: Response, answer: Answer) -> bytes | None:
    """The end of a stream that can carry a problem: Server-Sent Events and JSON lines.

    `None` where nothing can be said that is not taken for content: the body is to be aborted.
    """
    if response.header(b"content-length") or response.header(b"content-encoding"):
        return None
    media_type = response.header(b"content-type").partition(b";")[0].strip().lower()
    tail = response.last[-END:]
    if media_type == b"text/event-stream":
        if tail and not tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            return None  # an event is half written: to go on would deliver that half
        return b"event: error\ndata: " + encode(answer.document) + b"\n\n"
    if media_type in _LINES:
        return (b"\n" if tail and not tail.endswith(b"\n") else b"") + encode(answer.document) + b"\n"
    return None
