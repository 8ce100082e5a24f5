"""A stored entry as a response."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from .entry import Entry
from .http import Asked, Pair, cache_status, is_unchanged, not_modified, with_cookies

__all__ = ["Answer", "answer", "collapsed", "in_spite_of_failure"]


class Answer(Response):
    """Made anew for each request: FastAPI writes to what an endpoint returns."""

    def __init__(self, status: int, headers: list[Pair], body: bytes) -> None:
        self.status_code = status
        self.raw_headers = headers
        self.body = body
        self.background = None


def answer(
    entry: Entry, asked: Asked, now: float, injected: Sequence[Pair] = (), *, status: Pair | None = None
) -> Answer:
    """The entry as it answers this request.

    :param injected: the header fields that dependencies set for this request.
    :param status: what Cache-Status says, if it is more than that this is a hit.
    """
    headers = list(entry.headers)
    if injected and not entry.returned_response:
        headers += [pair for pair in injected if pair[0] not in entry.hidden and pair[0] != b"age"]
        headers = with_cookies(headers)
    headers += entry.extra
    age = now - entry.created
    headers.append((b"age", b"%d" % age if age > 0 else b"0"))
    headers.append(status or (b"cache-status", b"prodkit; hit; ttl=%d" % (entry.expires - now)))
    if entry.status == 200 and asked.is_conditional and is_unchanged(asked, headers):
        return Answer(304, not_modified(headers), b"")
    return Answer(entry.status, headers, entry.body)


def collapsed(entry: Entry, now: float) -> Pair:
    return cache_status("fwd=miss", "collapsed", f"ttl={int(entry.expires - now)}")


def in_spite_of_failure(entry: Entry, now: float) -> Pair:
    return cache_status("hit", f"ttl={int(entry.expires - now)}", 'detail="stale: computing failed"')
