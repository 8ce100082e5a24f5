"""Bytes with a lifetime, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from cachetools import LRUCache

from ..._arguments import count, function

__all__ = ["MemoryStore"]

_OVERHEAD = 400  # bytes that one entry costs beside its key and value: 380 on CPython 3.11, by tracemalloc


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
        count("max_bytes", max_bytes, least=1024)
        function("clock", clock)
        self._clock = clock
        # An entry that ended is dropped where it is met, or as one long unused. cachetools' own caches with
        # a lifetime keep a heap of them, which makes a write ten times as dear.
        self._entries: LRUCache[str, _Entry] = LRUCache(max_bytes, getsizeof=attrgetter("size"))

    async def get(self, *keys: str) -> list[bytes | None]:
        return [self._value(key) for key in keys]

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        self._put(key, value, ttl)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        held = self._value(key)
        if held is not None:
            return held
        self._put(key, value, ttl)
        return value

    async def release(self, key: str, value: bytes) -> bool:
        if self._value(key) != value:
            return False
        del self._entries[key]
        return True

    async def delete(self, *keys: str) -> None:
        for key in keys:
            self._entries.pop(key, None)

    def _value(self, key: str) -> bytes | None:
        try:
            entry = self._entries[key]
        except KeyError:
            return None
        if self._clock() < entry.ends:
            return entry.value
        del self._entries[key]
        return None

    def _put(self, key: str, value: bytes, ttl: float) -> None:
        entry = _Entry(value, self._clock() + ttl, len(key) + len(value) + _OVERHEAD)
        if ttl > 0 and entry.size <= self._entries.maxsize:
            self._entries[key] = entry
        else:
            self._entries.pop(key, None)
