"""How long an answer serves. Every time is in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .._arguments import fraction, seconds
from ..errors import ConfigurationError
from .entry import Entry
from .http import forbids_stale

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The times of one cached route or function (RFC 9111 section 4.2, RFC 5861).

    :param ttl: how long an answer is fresh.
    :param stale: how long after that it is still served while one refresh runs (stale-while-revalidate).
    :param stale_if_error: how long after `ttl` it is served where computing a new one fails.
    :param early: how eagerly an answer is refreshed before its end, as a multiple of what it took to compute
        (XFetch); 0 never.
    :param jitter: the fraction of `ttl` that is taken off at random, so that answers made together do not
        end together.
    """

    ttl: float
    stale: float = 0.0
    stale_if_error: float = 0.0
    early: float = 1.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        seconds("ttl", self.ttl)
        for name in ("stale", "stale_if_error", "early"):
            seconds(name, getattr(self, name), zero=True)
        if not fraction("jitter", self.jitter) < 1:
            raise ConfigurationError(f"jitter={self.jitter!r} takes everything off: give less than 1")

    @property
    def lifetime(self) -> float:
        """How long the store has to hold an answer."""
        return self.ttl + max(self.stale, self.stale_if_error)

    @property
    def without_refreshes(self) -> Policy:
        """The same where nothing can be computed behind a request: what is stale is computed in front."""
        return replace(self, stale=0.0, early=0.0, stale_if_error=max(self.stale, self.stale_if_error))

    def is_fresh(self, entry: Entry, now: float) -> bool:
        return now < entry.expires and not entry.uncacheable

    def is_plainly_fresh(self, entry: Entry, now: float) -> bool:
        """Fresh, and not so near to its end that an early refresh is to be thought of."""
        return now < entry.expires - entry.cost * self.early * 20 and not entry.uncacheable

    def may_serve(self, entry: Entry, now: float) -> bool:
        """Fresh, or stale within the time in which it is served at once."""
        return self._may_serve(entry, now, self.stale)

    def may_serve_on_error(self, entry: Entry, now: float) -> bool:
        return self._may_serve(entry, now, max(self.stale, self.stale_if_error))

    def _may_serve(self, entry: Entry, now: float, stale: float) -> bool:
        if entry.uncacheable or now >= entry.expires + stale:
            return False
        return now < entry.expires or not forbids_stale((*entry.headers, *entry.extra))

    def wants_refresh(self, entry: Entry, now: float, chance: float) -> bool:
        """Whether this caller should refresh it: it is stale, or it is its turn before the end.

        :param chance: a random number between 0 and 1. See "Optimal Probabilistic Cache Stampede
            Prevention" (Vattani, Chierichetti, Lowenstein 2015).
        """
        left = entry.expires - now
        window = entry.cost * self.early
        if left > window * 20:
            return False
        return left <= 0 or left < window * -math.log(1.0 - chance)
