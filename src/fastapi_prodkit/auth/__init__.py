"""Who is calling: JSON Web Tokens for HTTP and WebSocket."""

from __future__ import annotations

from .claims import Claims, InvalidTokenError
from .jwt_auth import JWTAuth
from .sources import TokenSource, bearer_header, cookie, query, subprotocol

__all__ = [
    "Claims",
    "InvalidTokenError",
    "JWTAuth",
    "TokenSource",
    "bearer_header",
    "cookie",
    "query",
    "subprotocol",
]
