"""The compact form of a signed token, RFC 7515 section 7.1, read strictly.

Whatever two parsers could read differently is refused: duplicate members, padding, bits left over in the last
character, `NaN`, lone surrogates, critical extensions.
"""

from __future__ import annotations

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import Any

from .claims import InvalidTokenError
from .keys import Keys

__all__ = ["decode", "encode"]

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def decode(token: str, keys: Keys, *, max_size: int, types: Collection[str]) -> dict[str, Any]:
    """The payload of a token whose signature holds.

    :raises InvalidTokenError: for anything else; nothing larger than `max_size` characters is looked at.
    """
    if len(token) > max_size:
        raise InvalidTokenError(f"the token is larger than {max_size} bytes")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise InvalidTokenError("the token is not three base64url parts")
    header_part, payload_part, signature_part = parts.groups()
    header = _json_object(_bytes(header_part))
    if "crit" in header or "b64" in header:
        raise InvalidTokenError("the token needs an extension (crit, b64)")
    if _type(header.get("typ", "JWT")) not in types:
        raise InvalidTokenError("the token is of another type (typ)")
    message = f"{header_part}.{payload_part}".encode()
    if not keys.verify(header.get("alg"), message, _bytes(signature_part)):
        raise InvalidTokenError("the signature does not hold")
    return _json_object(_bytes(payload_part))


def encode(payload: dict[str, Any], keys: Keys, *, type: str) -> str:
    """Sign `payload` with the first pinned algorithm."""
    header = {"alg": keys.default, "typ": type}
    message = ".".join(_text(json.dumps(each, separators=(",", ":")).encode()) for each in (header, payload))
    return f"{message}.{_text(keys.sign(message.encode()))}"


def _bytes(part: str) -> bytes:
    try:
        decoded = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        decoded = b""
    if _text(decoded) != part:
        raise InvalidTokenError("a part of the token is not canonical base64url")
    return decoded


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _type(typ: object) -> str:
    """A media type without its `application/`, which RFC 7515 section 4.1.9 lets a producer leave out."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_members, parse_constant=_number, parse_float=_number
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidTokenError("a part of the token is not strict JSON") from None
    if not isinstance(value, dict):
        raise InvalidTokenError("a part of the token is not a JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def _number(text: str) -> float:
    """Refuses `NaN`, `Infinity` and what is too large to be anything else."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number of JSON")
    return number
