"""The ids of a request: taken from its headers where they may be believed, made where not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

__all__ = ["Ids", "identify", "new_request_id", "read_request_id", "read_traceparent"]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@~-]{0,127}")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

Ids = tuple[str, str, str, str]


def new_request_id() -> str:
    """128 random bits in hexadecimal, without hyphens."""
    return os.urandom(16).hex()


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


def identify(
    headers: Mapping[bytes, bytes],
    *,
    inbound: str | None,
    new_id: Callable[[], str] | None,
) -> tuple[Ids, str | None]:
    """Request id, trace id, span id and trace flags, and the id of the parent span if there is one.

    :param inbound: a request id that is believed.
    """
    fresh = os.urandom(40).hex()
    request_id = inbound or (new_id() if new_id is not None else fresh[48:])
    parent = read_traceparent(headers.get(b"traceparent"))
    if parent is None:
        return (request_id, fresh[:32], fresh[32:48], "00"), None
    return (request_id, parent[0], fresh[32:48], parent[2]), parent[1]
