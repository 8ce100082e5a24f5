"""Bytes with a lifetime, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from ..._arguments import count, function
from .._held import OVERHEAD, Held

__all__ = ["MemoryStore"]


class _Entry(NamedTuple):
    value: bytes
    ends: float
    size: int


class MemoryStore:
    """A `Store` bounded in bytes: the least recently used entries go first.

    :param max_bytes: the most it holds, keys and bookkeeping included. A larger value is not kept.
    :param clock: seconds, never backwards.
    """

    def __init__(
        self, *, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries: Held[_Entry] = Held(count("max_bytes", max_bytes, least=1024))
        self._clock = function("clock", clock)
        self._lock = Lock()  # event loops of several threads may share it

    async def get(self, *keys: str) -> list[bytes | None]:
        with self._lock:
            return self._values(keys)

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        with self._lock:
            self._put(key, value, ttl)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        with self._lock:
            [held] = self._values((key,))
            if held is not None:
                return held
            self._put(key, value, ttl)
            return value

    async def release(self, key: str, value: bytes) -> bool:
        with self._lock:
            [held] = self._values((key,))
            if held != value:
                return False
            self._entries.drop(key)
            return True

    async def delete(self, *keys: str) -> None:
        with self._lock:
            for key in keys:
                self._entries.drop(key)

    def _values(self, keys: tuple[str, ...]) -> list[bytes | None]:
        now = self._clock()
        entries = self._entries
        found: list[bytes | None] = []
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                found.append(None)
            elif now < entry[1]:
                entries.move_to_end(key)
                found.append(entry[0])
            else:
                entries.drop(key)
                found.append(None)
        return found

    def _put(self, key: str, value: bytes, ttl: float) -> None:
        if ttl > 0:
            self._entries.put(key, _Entry(value, self._clock() + ttl, len(key) + len(value) + OVERHEAD))
        else:
            self._entries.drop(key)
