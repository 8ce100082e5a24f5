"""Header fields of caching: RFC 9110, RFC 9111, RFC 9211."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256

from starlette.types import Scope

__all__ = [
    "Asked",
    "cache_status",
    "directives",
    "etag_of",
    "forbids_stale",
    "is_unchanged",
    "not_modified",
    "seconds_until",
    "value_of",
    "with_cookies",
]

Pair = tuple[bytes, bytes]

_ASKED = frozenset(
    (
        b"if-none-match",
        b"if-modified-since",
        b"cache-control",
        b"pragma",
        b"range",
        b"authorization",
        b"cookie",
        b"proxy-authorization",
        b"x-api-key",
    )
)
_CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"))
# RFC 9110 section 15.4.5: a 304 repeats these, and no others that describe the content
_KEPT_BY_304 = frozenset(
    (b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary", b"set-cookie")
)
_CONTENT = (b"content-",)
_UNTIL_ITS_END = frozenset(("must-revalidate", "proxy-revalidate", "s-maxage"))


_NOTHING: dict[str, str | None] = {}
_NO_SECRETS: dict[str, str] = {}


class Asked:
    """What a request says about caching, from one look at its header fields."""

    __slots__ = ("control", "credentials", "if_modified_since", "if_none_match", "is_conditional", "range")

    def __init__(self, scope: Scope) -> None:
        self.if_none_match: bytes | None = None
        self.if_modified_since: bytes | None = None
        self.is_conditional = False
        self.range = False
        self.control: dict[str, str | None] = _NOTHING
        self.credentials: dict[str, str] = _NO_SECRETS
        for name, value in scope["headers"]:
            if name in _ASKED:
                self._take(name, value)
        if self.is_conditional and scope["method"] not in ("GET", "HEAD"):  # which alone a 304 can answer
            self.if_none_match = self.if_modified_since = None
            self.is_conditional = False

    def _take(self, name: bytes, value: bytes) -> None:
        if name in _CREDENTIALS:
            self.credentials = dict(self.credentials)
            known = self.credentials.get(name.decode())
            text = value.decode("latin-1")
            self.credentials[name.decode()] = text if known is None else f"{known}\n{text}"
        elif name == b"if-none-match":
            self.if_none_match = value if self.if_none_match is None else self.if_none_match + b"," + value
            self.is_conditional = True
        elif name == b"if-modified-since":
            self.if_modified_since = value
            self.is_conditional = True
        elif name == b"range":
            self.range = True
        elif name == b"cache-control":
            self.control = {**self.control, **directives(value)}
        elif name == b"pragma" and b"no-cache" in value.lower():
            self.control = {"no-cache": None, **self.control}


def directives(value: bytes) -> dict[str, str | None]:
    """The directives of a Cache-Control field (RFC 9111 section 5.2)."""
    found: dict[str, str | None] = {}
    for part in value.decode("latin-1").split(","):
        name, equals, argument = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = argument.strip().strip('"') if equals else None
    return found


def seconds_until(date: bytes, now: float) -> float:
    """From `now` to an Expires field; one that is no date is over (RFC 9111 section 5.3)."""
    try:
        return parsedate_to_datetime(date.decode("latin-1")).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return 0.0


def value_of(headers: Iterable[Pair], name: bytes) -> bytes | None:
    """All values of a field in one, `None` where it is absent."""
    values = [value for key, value in headers if key.lower() == name]
    return b", ".join(values) if values else None


def forbids_stale(headers: Iterable[Pair]) -> bool:
    """Whether a response may on no account be served after its time (RFC 9111 section 4.2.4)."""
    control = value_of(headers, b"cache-control")
    return control is not None and not directives(control).keys().isdisjoint(_UNTIL_ITS_END)


def etag_of(body: bytes) -> bytes:
    """A strong validator: the same bytes have the same one in every process."""
    return b'"%b"' % sha256(body).hexdigest()[:32].encode("ascii")


def is_unchanged(asked: Asked, headers: Iterable[Pair]) -> bool:
    """Whether the client has this representation already (RFC 9110 section 13.2.2)."""
    if asked.if_none_match is not None:
        etag = value_of(headers, b"etag")
        if asked.if_none_match.strip() == b"*":
            return True
        return etag is not None and _opaque(etag) in _entity_tags(asked.if_none_match)
    if asked.if_modified_since is not None:
        modified = value_of(headers, b"last-modified")
        return modified is not None and _not_after(modified, asked.if_modified_since)
    return False


def not_modified(headers: Iterable[Pair]) -> list[Pair]:
    """The fields of a 304: those of the 200 but for what describes the content."""
    return [
        (name, value)
        for name, value in headers
        if name.lower() in _KEPT_BY_304 or not name.lower().startswith(_CONTENT)
    ]


def with_cookies(headers: list[Pair]) -> list[Pair]:
    """The fields of a response that may set a cookie: then it is for one client, unless it says otherwise."""
    if not any(name == b"set-cookie" for name, _ in headers):
        return headers
    return [
        (name, b"private, " + value)
        if name == b"cache-control" and directives(value).keys().isdisjoint(("private", "public"))
        else (name, value)
        for name, value in headers
    ]


@lru_cache(maxsize=256)
def cache_status(*parameters: str) -> Pair:
    """Cache-Status (RFC 9211): this cache, and what it did."""
    return (b"cache-status", "; ".join(("prodkit", *parameters)).encode("latin-1", "replace"))


def _entity_tags(field: bytes) -> set[bytes]:
    """The opaque tags in a list; a tag may contain commas, so it is read quote by quote."""
    found: set[bytes] = set()
    rest = field
    while True:
        _, quote, rest = rest.partition(b'"')
        tag, end, rest = rest.partition(b'"')
        if not quote or not end:
            return found
        found.add(tag)


def _opaque(etag: bytes) -> bytes:
    return etag.strip().removeprefix(b"W/").strip(b'"')


def _not_after(modified: bytes, since: bytes) -> bool:
    try:
        return parsedate_to_datetime(modified.decode("latin-1")) <= parsedate_to_datetime(
            since.decode("latin-1")
        )
    except (TypeError, ValueError):
        return False
