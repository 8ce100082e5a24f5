"""How much of a limit is used: one class for each algorithm, without a place or a clock of its own.

A state is whatever an algorithm makes of it, `None` at first. Used units are a float; a cost fits while they
stay within the room of the limit. `backends/redis/counters.lua` says the same in Lua.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from ...typing import Limit

__all__ = ["ALGORITHMS", "Gcra"]

Windows = tuple[int, int, int]
"""The index of a window, its count, and the count of the one before."""

Log = deque[tuple[float, int]]
"""When how much was charged."""

Count = tuple[float, int]
"""The start of a period, and its count."""

Leases = dict[str, float]
"""Until when each token is held."""

Charged = tuple[Any, float, float]
"""A new state, its used units, and the seconds until it is back at zero."""

_TICK = 1e-6  # seconds; a client that paces itself exactly must not lose by rounding


class _Algorithm(Protocol):
    def used(self, state: Any, limit: Limit, now: float) -> float: ...
    def charged(
        self, state: Any, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged: ...
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

    def charged(
        self, state: complex | None, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged:
        used += cost
        if used < 0:
            used = 0.0
        interval = limit.interval
        reset = used * interval
        return complex(now + reset, -interval if used + 1 > limit.burst else interval), used, reset

    def reset(self, state: complex | None, limit: Limit, now: float) -> float:
        return self.used(state, limit, now) * limit.interval

    def retry(self, state: complex | None, limit: Limit, cost: int, now: float) -> float:
        return (self.used(state, limit, now) + cost - limit.burst) * limit.interval


class Sliding:
    """Two fixed windows: this one's count, and the share of the last one's that still overlaps."""

    def used(self, state: Windows | None, limit: Limit, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        return current + previous * (1 - share)

    def charged(
        self, state: Windows | None, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged:
        index, _, current, previous = _windows(state, limit, now)
        new = (index, max(0, current + cost), previous)
        return new, self.used(new, limit, now), self.reset(new, limit, now)

    def reset(self, state: Windows | None, limit: Limit, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        return limit.window * ((2 if current else 1 if previous else share) - share)

    def retry(self, state: Windows | None, limit: Limit, cost: int, now: float) -> float:
        _, share, current, previous = _windows(state, limit, now)
        room = limit.quota - cost
        if current <= room:
            return limit.window * (1 - (room - current) / previous - share) if previous else 0.0
        return limit.window * (2 - room / current - share)


class Moving:
    """Every charge of the last window, to the microsecond: exact, and as large as the quota."""

    def used(self, state: Log | None, limit: Limit, now: float) -> float:
        return float(sum(cost for _, cost in _pruned(state, limit, now)))

    def charged(
        self, state: Log | None, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged:
        log = _pruned(state, limit, now)
        while cost < 0 and log:
            at, latest = log.pop()
            cost += latest
            if cost > 0:
                log.append((at, cost))
                cost = 0
        if cost > 0:
            log.append((now, cost))
        return log, self.used(log, limit, now), self.reset(log, limit, now)

    def reset(self, state: Log | None, limit: Limit, now: float) -> float:
        log = _pruned(state, limit, now)
        return log[-1][0] + limit.window - now if log else 0.0

    def retry(self, state: Log | None, limit: Limit, cost: int, now: float) -> float:
        over = self.used(state, limit, now) + cost - limit.quota
        for at, each in _pruned(state, limit, now):
            over -= each
            if over <= 0:
                return at + limit.window - now
        return 0.0


class Calendar:
    """A count that starts anew with each period of the calendar. `now` is Unix time."""

    def used(self, state: Count | None, limit: Limit, now: float) -> float:
        return float(_count(state, limit, now))

    def charged(
        self, state: Count | None, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged:
        start, end = _period(limit, now)
        count = max(0, _count(state, limit, now) + cost)
        return (start, count), float(count), end - now if count else 0.0

    def reset(self, state: Count | None, limit: Limit, now: float) -> float:
        return _period(limit, now)[1] - now if _count(state, limit, now) else 0.0

    def retry(self, state: Count | None, limit: Limit, cost: int, now: float) -> float:
        return _period(limit, now)[1] - now


class Concurrent:
    """Tokens that are held, each for as long as its lease lasts: a holder that dies frees it by silence."""

    def used(self, state: Leases | None, limit: Limit, now: float) -> float:
        return float(len(_held(state, now)))

    def charged(
        self, state: Leases | None, limit: Limit, cost: int, now: float, used: float, token: str
    ) -> Charged:
        leases = _held(state, now)
        leases.pop(token, None)
        if cost > 0:
            leases[token] = now + limit.window
        return leases, float(len(leases)), self.reset(leases, limit, now)

    def reset(self, state: Leases | None, limit: Limit, now: float) -> float:
        return max(_held(state, now).values(), default=now) - now

    def retry(self, state: Leases | None, limit: Limit, cost: int, now: float) -> float:
        return 1.0  # nobody knows when a holder is done


ALGORITHMS: dict[str, _Algorithm] = {
    "gcra": Gcra(),
    "sliding": Sliding(),
    "moving": Moving(),
    "calendar": Calendar(),
    "concurrent": Concurrent(),
}


def _windows(state: Windows | None, limit: Limit, now: float) -> tuple[int, float, int, int]:
    """The window's index, the share of it that is over, its count and the last one's."""
    index, share = divmod(now / limit.window, 1)
    if state is None or state[0] < index - 1:
        return int(index), share, 0, 0
    if state[0] < index:
        return int(index), share, 0, state[1]
    return int(index), share, state[1], state[2]


def _pruned(state: Log | None, limit: Limit, now: float) -> Log:
    log: Log = deque() if state is None else state
    while log and log[0][0] + limit.window <= now + _TICK:
        log.popleft()
    return log


def _held(state: Leases | None, now: float) -> Leases:
    return {} if state is None else {token: until for token, until in state.items() if until > now}


def _count(state: Count | None, limit: Limit, now: float) -> int:
    return 0 if state is None or state[0] != _period(limit, now)[0] else state[1]


def _period(limit: Limit, now: float) -> tuple[float, float]:
    assert limit.period is not None, "a calendar limit has a period"
    return limit.period(now)
