"""How much of a limit is used: one class for each algorithm, without a place or a clock of its own.

A state is whatever an algorithm makes of it, `None` at first. Used units are a float; a cost fits while they
stay within the capacity. `backends/redis/counters.lua` says the same in Lua.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from ...typing import Limit

__all__ = ["ALGORITHMS", "Gcra", "slack"]

_TICK = 1e-6  # seconds; a client that paces itself exactly must not lose by rounding


def slack(limit: Limit) -> float:
    """Units that rounding may cost or give: what comes back in a microsecond, and a little."""
    return _TICK * (1.0 + limit.quota / limit.window)


class _Algorithm(Protocol):
    def used(self, state: Any, limit: Limit, now: float) -> float: ...
    def charged(self, state: Any, limit: Limit, cost: int, now: float) -> Any: ...
    def reset(self, state: Any, limit: Limit, now: float) -> float: ...
    def retry(self, state: Any, limit: Limit, cost: int, now: float) -> float: ...


class Gcra:
    """The generic cell rate algorithm: a bucket of `burst` units that refills at `quota / window`.

    The state is the time at which the bucket is full again (the theoretical arrival time) and the seconds
    that one unit took to come back; the latter is negative once the bucket held less than a unit. A complex
    number is the pair of floats that takes 32 bytes and that the garbage collector never visits.
    """

    def used(self, state: complex | None, limit: Limit, now: float) -> float:
        if state is None or state.real <= now:
            return 0.0
        return (state.real - now) / abs(state.imag)

    def charged(self, state: complex | None, limit: Limit, cost: int, now: float) -> complex:
        used = max(0.0, self.used(state, limit, now) + cost)
        interval = limit.window / limit.quota
        return complex(now + used * interval, -interval if used + 1 > limit.burst else interval)

    def reset(self, state: complex | None, limit: Limit, now: float) -> float:
        return self.used(state, limit, now) * limit.window / limit.quota

    def retry(self, state: complex | None, limit: Limit, cost: int, now: float) -> float:
        over = self.used(state, limit, now) + cost - limit.burst
        return over * limit.window / limit.quota


class Sliding:
    """Two fixed windows: this one's count, and the share of the last one's that still overlaps."""

    def used(self, state: tuple[int, int, int] | None, limit: Limit, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        return current + previous * (1 - share)

    def charged(
        self, state: tuple[int, int, int] | None, limit: Limit, cost: int, now: float
    ) -> tuple[int, int, int]:
        index, _, current, previous = _windows(state, limit, now)
        return index, max(0, current + cost), previous

    def reset(self, state: tuple[int, int, int] | None, limit: Limit, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        return limit.window * ((2 if current else 1 if previous else share) - share)

    def retry(self, state: tuple[int, int, int] | None, limit: Limit, cost: int, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        room = limit.quota - cost
        if current <= room:
            return limit.window * (1 - (room - current) / previous - share) if previous else 0.0
        return limit.window * (2 - room / current - share)


class Moving:
    """Every charge of the last window, to the microsecond: exact, and as large as the quota."""

    def used(self, state: deque[tuple[float, int]] | None, limit: Limit, now: float) -> float:
        return float(sum(cost for _, cost in _pruned(state, limit, now)))

    def charged(
        self, state: deque[tuple[float, int]] | None, limit: Limit, cost: int, now: float
    ) -> deque[tuple[float, int]]:
        log = _pruned(state, limit, now)
        while cost < 0 and log:
            at, latest = log.pop()
            cost += latest
            if cost > 0:
                log.append((at, cost))
                return log
        if cost > 0:
            log.append((now, cost))
        return log

    def reset(self, state: deque[tuple[float, int]] | None, limit: Limit, now: float) -> float:
        log = _pruned(state, limit, now)
        return log[-1][0] + limit.window - now if log else 0.0

    def retry(self, state: deque[tuple[float, int]] | None, limit: Limit, cost: int, now: float) -> float:
        over = self.used(state, limit, now) + cost - limit.quota
        for at, each in _pruned(state, limit, now):
            over -= each
            if over <= 0:
                return at + limit.window - now
        return 0.0


class Calendar:
    """A count that starts anew with each period of the calendar. `now` is Unix time."""

    def used(self, state: tuple[float, int] | None, limit: Limit, now: float) -> float:
        return float(_count(state, limit, now))

    def charged(
        self, state: tuple[float, int] | None, limit: Limit, cost: int, now: float
    ) -> tuple[float, int]:
        return _period(limit, now)[0], max(0, _count(state, limit, now) + cost)

    def reset(self, state: tuple[float, int] | None, limit: Limit, now: float) -> float:
        return _period(limit, now)[1] - now if _count(state, limit, now) else 0.0

    def retry(self, state: tuple[float, int] | None, limit: Limit, cost: int, now: float) -> float:
        return _period(limit, now)[1] - now


ALGORITHMS: dict[str, _Algorithm] = {
    "gcra": Gcra(),
    "sliding": Sliding(),
    "moving": Moving(),
    "calendar": Calendar(),
}


def _windows(state: tuple[int, int, int] | None, limit: Limit, now: float) -> tuple[int, float, int, int]:
    """The window's index, the share of it that is over, its count and the last one's."""
    index, share = divmod(now / limit.window, 1)
    if state is None or state[0] < index - 1:
        return int(index), share, 0, 0
    if state[0] < index:
        return int(index), share, 0, state[1]
    return int(index), share, state[1], state[2]


def _pruned(state: deque[tuple[float, int]] | None, limit: Limit, now: float) -> deque[tuple[float, int]]:
    log: deque[tuple[float, int]] = deque() if state is None else state
    while log and log[0][0] + limit.window <= now + _TICK:
        log.popleft()
    return log


def _count(state: tuple[float, int] | None, limit: Limit, now: float) -> int:
    return 0 if state is None or state[0] != _period(limit, now)[0] else state[1]


def _period(limit: Limit, now: float) -> tuple[float, float]:
    assert limit.period is not None, "a calendar limit has a period"
    return limit.period(now)
