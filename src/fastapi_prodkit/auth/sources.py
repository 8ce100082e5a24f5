"""Where a token may be found. A source is a function of the connection: the token, or `None` to look further.

A source of your own is one more function in the list `JWTAuth(sources=[...])`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from hashlib import sha256
from urllib.parse import quote_plus, unquote_plus

from starlette.requests import HTTPConnection

from .._arguments import field_name, names, text
from ..errors import ConfigurationError, ProblemError

__all__ = ["TokenSource", "bearer_header", "cookie", "query", "subprotocol"]

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)

TokenSource = Callable[[HTTPConnection], str | None]


def bearer_header(connection: HTTPConnection) -> str | None:
    """`Authorization: Bearer <token>`, RFC 6750 section 2.1. Sent twice, it is no token."""
    scheme, _, token = ", ".join(connection.headers.getlist("authorization")).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def subprotocol(connection: HTTPConnection) -> str | None:
    """The subprotocol offered after `bearer`: `new WebSocket(url, ["bearer", token])` in a browser.

    Whoever accepts must answer with `bearer` or a protocol of their own, never with the token;
    `Hub.join` does.
    """
    if connection.scope["type"] != "websocket":
        return None
    offered: list[str] = connection.scope["subprotocols"]
    if "bearer" not in offered:
        return None
    return next(iter(offered[offered.index("bearer") + 1 :]), None)


def cookie(name: str, *, allowed_origins: Collection[str]) -> TokenSource:
    """The cookie `name`, for requests that come from a page of `allowed_origins` alone.

    Browsers send cookies with what *any* page starts, and neither CORS nor `SameSite` guards a WebSocket
    against all of them (cross-site WebSocket hijacking). A handshake, and any request that may change
    something, has to name its origin; a `GET` or `HEAD` may come without.

    :param allowed_origins: such as `https://shop.example`, scheme and port included.
    :raises ConfigurationError: for what is no origin as browsers send it; `*` is none.
    """
    field_name("name", name)
    origins = frozenset(_origin(each) for each in names("allowed_origins", allowed_origins))
    if not origins:
        raise ConfigurationError("allowed_origins must be a list of at least one origin")

    def from_cookie(connection: HTTPConnection) -> str | None:
        token = connection.cookies.get(name)
        if token is None:
            return None
        origin = connection.headers.get("origin")
        harmless = connection.scope.get("method") in ("GET", "HEAD")
        if (origin is None and not harmless) or (origin is not None and origin.lower() not in origins):
            raise ProblemError(403, "A page of this origin may not use the cookie.")
        return token

    return from_cookie


def query(name: str = "access_token") -> TokenSource:
    """The query parameter `name`; choose it last.

    URLs end up in logs and histories (RFC 6750 section 5.3). As soon as it is read, a digest takes the
    token's place in the scope, so that uvicorn's own log lines do not have it; a proxy still sees it.
    """
    if not text("name", name):
        raise ConfigurationError("name='' is no query parameter: leave it out for 'access_token'")
    key = f"fastapi_prodkit.auth.query.{name}"

    def from_query(connection: HTTPConnection) -> str | None:
        scope = connection.scope
        if key not in scope:
            values = connection.query_params.getlist(name)
            if not values:
                return None
            scope[key] = hidden = _Hidden(", ".join(values))
            parts = scope["query_string"].decode("latin-1").split("&")
            shown = f"{quote_plus(name)}=sha256-{hidden.digest}"
            scope["query_string"] = "&".join(
                shown if unquote_plus(part.partition("=")[0]) == name else part for part in parts
            ).encode("latin-1")
        token: str = scope[key].token
        return token

    return from_query


class _Hidden:
    """A token that no dump of a scope shows."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    @property
    def digest(self) -> str:
        """Tells one token from another; nobody gets the token back."""
        return sha256(self.token.encode(errors="replace")).hexdigest()[:32]


def _origin(text: str) -> str:
    """RFC 6454 section 6.2: a scheme, a host in ASCII, and a port if it is not the scheme's own."""
    found = _ORIGIN.fullmatch(text)
    if found is None or (found["scheme"].lower(), found["port"]) in (("http", "80"), ("https", "443")):
        raise ConfigurationError(
            f"allowed_origins has {text!r}, which is no origin as browsers send it: write it as "
            "https://shop.example, without a port that https has anyway, a foreign name as xn--"
        )
    return text.lower()
