"""Everything in this process: the default, exact for one worker, gone with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from .bus import MemoryBus
from .counters import MemoryCounters
from .store import MemoryStore

__all__ = ["MemoryBackend", "MemoryBus", "MemoryCounters", "MemoryStore"]


class MemoryBackend:
    """The three ports in this process's memory.

    :param max_bytes: the most that the store holds; the least recently used go first.
    :param max_pending: the most messages that a slow listener of the bus may be behind.
    :param max_keys: the most counts that the counters hold; those nearest to zero go first.
    :param clock: seconds, never backwards.
    :param wall_clock: Unix time, for limits by the calendar.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        max_pending: int = 1024,
        max_keys: int = 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = MemoryStore(max_bytes=max_bytes, clock=clock)
        self.bus = MemoryBus(max_pending=max_pending)
        self.counters = MemoryCounters(max_keys=max_keys, clock=clock, wall_clock=wall_clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None
