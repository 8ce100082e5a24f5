"""Counts against limits, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from ..._arguments import count, function
from ...typing import Charge, Limit, Verdict
from .algorithms import ALGORITHMS
from .table import CountTable

__all__ = ["MemoryCounters"]


_verdict = partial(tuple.__new__, Verdict)  # of a tuple, at half of what calling a NamedTuple costs


class MemoryCounters:
    """`Counters` in one table of bounded size.

    :param max_keys: the most counts it holds. Full, it forgets those that are back at zero, then those
        with the most left; one that is at its limit is never forgotten before it is back at zero.
    :param clock: seconds, never backwards.
    :param wall_clock: Unix time, for calendar periods.
    """

    def __init__(
        self,
        *,
        max_keys: int = 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = CountTable(count("max_keys", max_keys))
        self._clock = function("clock", clock)
        self._start = clock()  # small numbers keep their microseconds
        self._wall_clock = function("wall_clock", wall_clock)

    def __len__(self) -> int:
        return len(self._table)

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        weighed = []
        fits_all = True
        clock = self._clock() - self._start
        table = self._table
        for subject, limits, cost, dry, token in charges:
            for limit in limits:
                now = clock if limit.period is None else self._wall_clock()
                key = f"{subject}:{limit.name}"
                shard = table.shard(key)
                state = shard.get(key)
                if state is None and (place := table.place(key, limit.name, clock)) != key:
                    key, shard = place, table.shard(place)
                    state = shard.get(key)
                if type(state) is tuple:
                    state = state[0]
                algorithm = ALGORITHMS[limit.algorithm]
                used = algorithm.used(state, limit, now)
                fits = used + cost <= limit.room
                if not fits:
                    fits_all = False
                weighed.append((key, shard, state, limit, algorithm, cost, dry, token, now, used, fits))
        verdicts = []
        for key, shard, state, limit, algorithm, cost, dry, token, now, used, fits in weighed:
            retry = 0.0
            if not fits:
                retry = algorithm.retry(state, limit, cost, now) if cost <= limit.capacity else math.inf
            if (fits_all or force) and cost and not dry:
                state, used, reset = algorithm.charged(state, limit, cost, now, used, token)
                if type(state) is not complex:
                    state = (state, clock + reset, used + 1 > limit.capacity)
                shard[key] = state
            else:
                reset = algorithm.reset(state, limit, now)
            remaining = int(limit.room - used)
            verdicts.append(_verdict((fits, remaining if remaining > 0 else 0, reset, retry)))
        return verdicts

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        for limit in limits:
            self._table.pop(f"{subject}:{limit.name}")

    def take(self, subject: str, limit: Limit) -> int:
        """Forget what a subject was charged with; how much that was, even beyond the limit."""
        key = f"{subject}:{limit.name}"
        now = self._clock() - self._start if limit.period is None else self._wall_clock()
        used = ALGORITHMS[limit.algorithm].used(self._table.get(key), limit, now)
        self._table.pop(key)
        return math.ceil(used - (limit.room - limit.capacity))
