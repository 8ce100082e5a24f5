"""What of a response is kept, and whether it may be (RFC 9111 section 3)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from starlette.responses import Response

from .entry import Entry
from .http import Asked, Pair, directives, seconds_until, with_cookies
from .policy import Policy
from .ticket import Ticket

__all__ = ["Capture", "Kept", "keep"]

# RFC 9111 section 3.1
_OF_THE_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_TELLING = _OF_THE_CONNECTION | {b"set-cookie", b"cache-control", b"vary", b"expires", b"age"}


class Capture(NamedTuple):
    """What the endpoint tells the slot about the response that is coming.

    :param response: the one that dependencies write header fields to.
    :param before: its header fields before the endpoint ran.
    :param vary: the request header fields to name in Vary.
    :param selecting: all of them that are part of the key, were they in this request or not.
    :param ttl: seconds for which the answer is fresh.
    :param fwd: why it is computed, in the words of RFC 9211.
    """

    ticket: Ticket
    policy: Policy
    asked: Asked
    response: Response
    before: Sequence[Pair]
    max_bytes: int
    vary: tuple[str, ...]
    selecting: frozenset[str]
    cache_control: bytes
    ttl: float
    fwd: str

    def lifetime(self, entry: Entry) -> float:
        """Seconds for which the store has to hold the entry."""
        return entry.expires - entry.created + self.policy.lifetime - self.policy.ttl


class Kept(NamedTuple):
    """The entry, still without its body, and the fields of the response with ours among them."""

    entry: Entry
    fields: list[Pair]


def keep(status: int, headers: list[Pair], capture: Capture, *, by_response: bool) -> Kept | str:
    """What to keep of a response, or the reason why nothing is.

    :param by_response: whether the endpoint returned a `Response`: then FastAPI sends nothing that
        dependencies set.
    """
    if not 200 <= status < 400 or status in (206, 304):
        return f"status {status}"
    added = [] if by_response else list(capture.response.raw_headers)
    base = headers[: len(headers) - len(added)]
    if headers[len(base) :] != added:
        return "header fields were changed on the way"
    extra, hidden = _by_endpoint(capture.before, added) if capture.before or added else ([], [])
    own = _read(chain(base, extra))
    if isinstance(own, str):
        return own
    said = directives(own.control) if own.control else {}
    varied = own.vary.decode("latin-1").lower().replace(",", " ").split() if own.vary else []
    made, ttl = capture.ticket.now() - own.age, capture.ttl
    if said or own.expires:
        ttl = min(ttl, _lifetime(said, own.expires, made))
    injected = b",".join(value for name, value in added if name.lower() == b"cache-control") if added else b""
    forbidden = {**said, **directives(injected)} if injected else said
    reason = _objection(forbidden, set(varied) - capture.selecting) if forbidden or varied else None
    if reason is not None:
        return reason
    if ttl <= own.age:
        return "expires at once"
    ours: list[Pair] = []
    if not said:
        ours.append((b"cache-control", capture.cache_control))
    if new := [name for name in capture.vary if name not in varied]:
        ours.append((b"vary", ", ".join(new).encode()))
    entry = Entry(
        stamps=b"",
        created=made,
        expires=made + ttl,
        cost=0.0,
        body=b"",
        status=status,
        headers=(*_without(own.passing, base), *ours),
        extra=_without(own.passing, extra),
        hidden=tuple(hidden),
        returned_response=by_response,
    )
    fields = [*base, *ours, *added]
    return Kept(entry, with_cookies(fields) if added else fields)


class _Own(NamedTuple):
    """What the fields that are the endpoint's own say about keeping them.

    :param passing: the names of those that are not to be kept.
    """

    control: bytes
    vary: bytes
    expires: bytes
    age: float
    passing: set[bytes]


def _read(fields: Iterable[Pair]) -> _Own | str:
    """What they say, or why nothing may be kept."""
    control = vary = expires = b""
    age, passing = 0.0, set()
    for name, value in fields:
        lower = name.lower()
        if b"\n" in value or b"\r" in value:
            return "a header field with a line break"
        if lower not in _TELLING and not lower.startswith(b"proxy-"):
            continue
        if lower == b"set-cookie":
            return "sets a cookie"
        if lower == b"cache-control":
            control += b"," + value
        elif lower == b"vary":
            vary += b"," + value
        elif lower == b"expires":
            expires = value
        elif lower == b"age":
            age = age if lower in passing else _age(value)
            passing.add(lower)
        else:
            passing.add(lower)
            if lower == b"connection":
                passing.update(each.strip() for each in value.lower().split(b","))
    return _Own(control, vary, expires, age, passing)


def _by_endpoint(before: Iterable[Pair], after: Iterable[Pair]) -> tuple[list[Pair], list[bytes]]:
    """Of what dependencies and the endpoint wrote: what the endpoint added, and the names it took away."""
    gone, extra = list(before), []
    for pair in after:
        if pair in gone:
            gone.remove(pair)
        else:
            extra.append(pair)
    return extra, [name for name, _ in gone]


def _without(names: Collection[bytes], fields: Iterable[Pair]) -> tuple[Pair, ...]:
    return tuple(pair for pair in fields if pair[0].lower() not in names) if names else tuple(fields)


def _objection(said: dict[str, str | None], unknown: set[str]) -> str | None:
    for each in ("no-store", "private", "no-cache"):
        if each in said:
            return each
    return f"varies by {', '.join(sorted(unknown))}" if unknown else None


def _lifetime(said: dict[str, str | None], expires: bytes, made: float) -> float:
    """Seconds for which a response says that it is fresh (RFC 9111 section 4.2.1)."""
    given = _seconds(said.get("s-maxage", said.get("max-age")))
    if given:
        return given[0]
    return seconds_until(expires, made) if expires else math.inf


def _seconds(text: str | None) -> list[float]:
    return [float(text)] if text is not None and text.isdecimal() else []


def _age(field: bytes) -> float:
    """The seconds in an Age field: the first of several, none if it is no number (RFC 9111 section 5.1)."""
    return sum(_seconds(field.decode("latin-1").split(",")[0].strip()))
