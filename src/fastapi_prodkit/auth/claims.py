"""What a token says, checked: RFC 7519 section 4.1, without the leniency that parsers allow themselves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import PlainSerializer

__all__ = ["Claims", "InvalidTokenError", "read_claims"]

_END_OF_TIME = 253_402_300_799  # the last second of the year 9999, which datetime can still hold


_ReadOnly = Annotated[Mapping[str, Any], PlainSerializer(dict, return_type=dict[str, Any])]


class InvalidTokenError(Exception):
    """Why a token is refused. The reason is for logs and never quotes the token.

    :param public: what the client may read, if it is more than "not valid".
    """

    def __init__(self, reason: str, *, public: str = "The token is not valid.") -> None:
        super().__init__(reason)
        self.public = public


@dataclass(frozen=True, slots=True)
class Claims:
    """Who is calling, as the token says it. Make one yourself to override authentication in a test.

    :param subject: the claim `sub`.
    :param scopes: from `scope` (RFC 8693, words parted by spaces) or `scp`.
    :param expires: the claim `exp`, seconds since the epoch.
    :param issuer: the claim `iss`.
    :param token_id: the claim `jti`.
    :param raw: every claim of the token, read-only. Not in the repr: it may hold personal data.
    """

    subject: str
    scopes: frozenset[str] = frozenset()
    expires: float = math.inf
    issuer: str | None = None
    token_id: str | None = None
    raw: _ReadOnly = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)


def read_claims(
    payload: dict[str, Any],
    *,
    now: float,
    leeway: float,
    issuers: Collection[str],
    audiences: Collection[str],
    required: Collection[str],
) -> Claims:
    """The claims of a payload whose signature holds.

    :raises InvalidTokenError: for a claim that is missing, malformed, or not for here and now.
    """
    for name in required:
        if payload.get(name) is None:
            raise InvalidTokenError(f"the claim {name} is missing")
    expires = _check_times(payload, now, leeway)
    subject, issuer, token_id = (_text(payload, name) for name in ("sub", "iss", "jti"))
    if issuers and issuer not in issuers:
        raise InvalidTokenError("the token is from another issuer (iss)")
    _check_audience(payload.get("aud"), audiences)
    assert subject is not None, "`required` always has sub"
    return Claims(
        subject=subject,
        scopes=_scopes(payload),
        expires=expires,
        issuer=issuer,
        token_id=token_id,
        raw=MappingProxyType(payload),
    )


def _check_times(payload: dict[str, Any], now: float, leeway: float) -> float:
    expires, not_before, issued = (_time(payload, name) for name in ("exp", "nbf", "iat"))
    assert expires is not None, "`required` always has exp"
    if expires <= now - leeway:
        raise InvalidTokenError("the token has expired", public="The token has expired.")
    if not_before is not None and not_before > now + leeway:
        raise InvalidTokenError("the token is not valid yet (nbf)", public="The token is not valid yet.")
    if issued is not None and issued > now + leeway:
        raise InvalidTokenError("the token was issued in the future (iat)")
    return expires


def _time(payload: dict[str, Any], name: str) -> float | None:
    """A NumericDate: a JSON number. A string, a boolean or a date beyond the calendar is none."""
    value = payload.get(name)
    if value is None and name not in payload:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _END_OF_TIME:
        raise InvalidTokenError(f"the claim {name} is not a date")
    return float(value)


def _text(payload: dict[str, Any], name: str) -> str | None:
    value = payload.get(name)
    if value is None and name not in payload:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidTokenError(f"the claim {name} is not a printable string")
    return value


def _check_audience(claimed: object, audiences: Collection[str]) -> None:
    named = [claimed] if isinstance(claimed, str) else claimed
    if named is not None and not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
        raise InvalidTokenError("the claim aud is neither a string nor a list of strings")
    if audiences and not set(audiences).intersection(named or ()):
        raise InvalidTokenError("the token is for another audience (aud)")
    if named and not audiences:
        raise InvalidTokenError("the token names an audience (aud) and none was configured")


def _scopes(payload: dict[str, Any]) -> frozenset[str]:
    granted = payload.get("scope", payload.get("scp", ""))
    words = granted.split(" ") if isinstance(granted, str) else granted
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidTokenError("the scopes are neither a string nor a list of strings")
    return frozenset(filter(None, words))
