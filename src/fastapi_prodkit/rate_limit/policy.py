"""A limit in force somewhere, under the name by which clients know it."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from ..typing import Algorithm, Limit
from .grammar import Rate

__all__ = ["Policy", "digest", "policies"]


@dataclass(frozen=True, slots=True)
class Policy:
    """:param name: stands in the RateLimit headers and in `violated-policies`.
    :param field: its item in `RateLimit-Policy`.
    """

    name: str
    limit: Limit
    field: str


def policies(
    rates: tuple[Rate, ...], *, scope: str, name: str | None, burst: int | None, algorithm: Algorithm
) -> tuple[Policy, ...]:
    """The policies of one rule in one scope (a route, or a budget that routes share by name).

    Counts are kept by scope, window and algorithm, not by quota: who changes a quota forgives nothing.
    """
    place = digest(scope, size=6)
    found = []
    for rate in rates:
        label = rate.label if name is None else name if len(rates) == 1 else f"{name}-{rate.label}"
        limit = Limit(
            name=f"{place}{algorithm[0]}{rate.window:.0f}",
            quota=rate.quota,
            window=rate.window,
            burst=rate.quota if burst is None else burst,
            algorithm=algorithm,
        )
        found.append(Policy(label, limit, f'"{label}";q={rate.quota};w={rate.window:.0f}'))
    return tuple(found)


def digest(text: str, *, size: int = 15, key: bytes = b"") -> str:
    """A short name that nobody reads a person's identity from."""
    hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size, key=key).digest()
    return urlsafe_b64encode(hashed).rstrip(b"=").decode()
