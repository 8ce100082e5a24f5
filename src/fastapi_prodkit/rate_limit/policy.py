"""A limit in force somewhere, under the name by which clients know it."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from ..typing import Limit
from .bans import Ban
from .calendar import Calendar
from .grammar import Rate
from .terms import Terms

__all__ = ["Policies", "Policy", "ban_policy", "digest", "policies"]


@dataclass(frozen=True, slots=True)
class Policy:
    """:param name: stands in the RateLimit headers and in `violated-policies`.
    :param field: its item in `RateLimit-Policy`; empty for what clients are told when refused alone.
    """

    name: str
    limit: Limit
    field: str


class Policies:
    """Policies that hold together, with what is needed of them for each request.

    :param items: in the order in which clients are told.
    """

    __slots__ = ("are_told", "field", "items", "limits", "state")

    def __init__(self, items: tuple[Policy, ...]) -> None:
        self.items = items
        self.limits = tuple(policy.limit for policy in items)
        told = [policy for policy in items if policy.field]
        self.are_told = len(told) == len(items)
        """Whether clients are told of all of them, refused or not."""
        self.field = ", ".join(policy.field for policy in told).encode()
        self.state = b", ".join(
            b'"%b";r=%%d;t=%%d' % policy.name.replace("%", "%%").encode() for policy in told
        )
        """What is left of each, to be filled in with the remaining units and the seconds to the reset."""

    @classmethod
    def join(cls, several: tuple[Policies, ...]) -> Policies:
        return cls(tuple(policy for each in several for policy in each.items))


def policies(rates: tuple[Rate, ...], *, place: str, terms: Terms) -> Policies:
    """The policies of one rule in one place.

    Counts are kept by place, window and algorithm, not by quota: who changes a quota forgives nothing.
    """
    prefix = digest(place, size=6)
    suffix = place.partition("#")[2]
    calendar = terms.algorithm if isinstance(terms.algorithm, Calendar) else None
    algorithm = "calendar" if isinstance(terms.algorithm, Calendar) else terms.algorithm
    found = []
    for rate in rates:
        name = _name(rate, terms.name, len(rates), suffix)
        limit = Limit(
            name=f"{prefix}{algorithm[:2]}{rate.window:.0f}",
            quota=rate.quota,
            window=rate.window,
            burst=rate.quota if terms.burst is None else terms.burst,
            algorithm=algorithm,
            period=None if calendar is None else calendar.period(rate.label),
        )
        unit = 'qu="concurrent-requests"' if algorithm == "concurrent" else f"w={rate.window:.0f}"
        found.append(Policy(name, limit, f'"{name}";q={rate.quota};{unit}'))
    return Policies(tuple(found))


def ban_policy(ban: Ban, *, place: str, name: str | None) -> Policies:
    """What holds for who is banned."""
    label = "ban" if name is None else f"{name}-ban"
    return Policies((Policy(label, ban.limit(digest(place, size=6)), ""),))


def digest(text: str, *, size: int = 15, key: bytes = b"") -> str:
    """A short name that nobody reads a person's identity from."""
    hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size, key=key).digest()
    return urlsafe_b64encode(hashed).rstrip(b"=").decode()


def _name(rate: Rate, name: str | None, rates: int, suffix: str) -> str:
    if name is None:
        return f"{rate.label}-{suffix}" if suffix else rate.label
    return name if rates == 1 else f"{name}-{rate.label}"
