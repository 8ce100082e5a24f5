"""Close codes: RFC 6455 section 7.4 and the IANA registry of WebSocket close codes."""

from __future__ import annotations

from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from .._asgi import leaves
from ..errors import UnavailableError

__all__ = [
    "FAILED",
    "LOST",
    "NORMAL",
    "NOT_JSON",
    "NOT_TEXT",
    "NO_CODE",
    "RESTART",
    "TOO_BIG",
    "TRY_LATER",
    "UNAUTHORIZED",
    "code_of",
    "fitting",
    "is_sendable",
]

NORMAL = 1000
NOT_TEXT = 1003
NO_CODE = 1005
LOST = 1006
NOT_JSON = 1007
TOO_BIG = 1009
FAILED = 1011
RESTART = 1012
TRY_LATER = (
    1013  # "try again later": who was too slow should come again and catch up; 1008 would say stay away
)
UNAUTHORIZED = 3000

_STANDARD = frozenset(range(1000, 1015)) - {1004, 1005, 1006}
_BY_STATUS = {401: UNAUTHORIZED, 403: 3003, 408: 3008}


def code_of(error: BaseException, *, is_gone: bool) -> tuple[int, str]:
    """The code and the reason that tell a client of an error raised after the handshake.

    The HTTP statuses with a registered code get that (3000, 3003, 3008); other 4xx become 4000 + status,
    in the range for private use. A place that is away is 1013, "try again later"; anything else is 1011, the
    disconnect of another socket's client too.

    :param is_gone: whether this one's client is.
    """
    if isinstance(error, WebSocketException) and is_sendable(error.code):
        return error.code, error.reason or ""
    if isinstance(error, WebSocketDisconnect) and is_gone:
        return error.code, ""
    if isinstance(error, BaseExceptionGroup):
        told = [code_of(each, is_gone=is_gone) for each in leaves(error)]
        return next((each for each in told if each[0] == FAILED), told[0])
    if isinstance(error, UnavailableError):
        return TRY_LATER, "Try again later."
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return _BY_STATUS.get(error.status_code, 4000 + error.status_code), str(error.detail)
    return FAILED, ""


def is_sendable(code: object) -> bool:
    """Whether a close frame may carry it: 1004 to 1006 and 1015 never travel."""
    return isinstance(code, int) and (code in _STANDARD or 3000 <= code <= 4999)


def fitting(reason: str) -> str:
    """`reason` cut to the 123 bytes that fit into a close frame."""
    return reason.encode(errors="replace")[:123].decode(errors="ignore")
