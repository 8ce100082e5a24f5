"""Everything in this process: the default, exact for one worker, gone with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from .bus import MemoryBus
from .store import MemoryStore

__all__ = ["MemoryBackend", "MemoryBus", "MemoryStore"]


class MemoryBackend:
    """The three ports in this process's memory.

    :param max_bytes: the most that the store holds; the least recently used go first.
    :param max_pending: the most messages that a slow listener of the bus may be behind.
    :param clock: seconds, never backwards.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        max_pending: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = MemoryStore(max_bytes=max_bytes, clock=clock)
        self.bus = MemoryBus(max_pending=max_pending)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None
