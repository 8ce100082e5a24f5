"""Those who will not stop: each ban is longer than the one before."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

from .._arguments import count, seconds
from ..errors import ConfigurationError, UnavailableError
from ..typing import Charge, Counters, Limit

__all__ = ["Ban"]

_FORGET = 64  # so many bans are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """Who is refused more than `after` times within `within` seconds is banned; every refusal counts.

    :param first: seconds of the first ban.
    :param factor: by which each further ban is longer than the one before.
    :param longest: seconds that no ban exceeds.
    :param memory: seconds without a ban after which the next one is a first one again.
    """

    after: int = 10
    within: float = 60.0
    first: float = 60.0
    factor: float = 2.0
    longest: float = 86_400.0
    memory: float = 86_400.0

    def __post_init__(self) -> None:
        count("after", self.after)
        for name in ("within", "first", "longest", "memory"):
            seconds(name, getattr(self, name))
        if not (seconds("factor", self.factor) >= 1 and self.longest >= self.first):
            raise ConfigurationError(f"{self!r}: give factor >= 1 and longest >= first")

    def limit(self, prefix: str) -> Limit:
        """Its units are seconds: whoever owes more than none of them is banned."""
        return Limit(f"{prefix}x", 1, 1.0, 1)

    def limits(self, prefix: str) -> tuple[Limit, ...]:
        """Everything that is counted for it: refusals, bans, seconds."""
        return (
            Limit(f"{prefix}r", self.after, self.within, self.after),
            Limit(f"{prefix}n", _FORGET, self.memory * _FORGET, _FORGET),
            self.limit(prefix),
        )

    async def refused(self, counters: Counters, subject: str, prefix: str) -> float:
        """Count a refusal; the seconds of the ban that it earned, or 0."""
        refusals, bans, seconds = self.limits(prefix)
        [verdict] = await counters.weigh(Charge(subject, (refusals,)))
        if verdict.admitted:
            return 0.0
        [verdict] = await counters.weigh(Charge(subject, (seconds,)))
        if not verdict.admitted:  # of many that were refused at once, one was banned for all of them
            return max(verdict.retry, self.first)
        [verdict] = await counters.weigh(Charge(subject, (bans,)), force=True)
        earlier = max(0, bans.burst - verdict.remaining - 1)
        length = min(self.longest, self.first * self.factor**earlier)
        await counters.weigh(Charge(subject, (seconds,), math.ceil(length) - 1), force=True)
        # last: it makes all workers forget what they know to be refused, which is less than the ban
        with suppress(UnavailableError):  # it was forgotten where it counts now
            await counters.reset(subject, (refusals,))
        return length
