"""Bytes with a lifetime, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import TLRUCache

from ..._arguments import count, function

__all__ = ["MemoryStore"]

_OVERHEAD = 240  # bytes that one entry costs beside its key and value, measured on CPython 3.11 to 3.13


class _Entry(NamedTuple):
    value: bytes
    ttl: float
    size: int


class MemoryStore:
    """A `Store` bounded in bytes: expired entries go first, then the least recently used.

    :param max_bytes: the most it holds, keys and bookkeeping included. A larger value is not kept.
    :param clock: seconds, never backwards.
    """

    def __init__(
        self, *, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        count("max_bytes", max_bytes, least=1024)
        function("clock", clock)
        self._entries: TLRUCache[str, _Entry] = TLRUCache(
            maxsize=max_bytes,
            ttu=lambda _key, entry, now: now + entry.ttl,
            timer=clock,
            getsizeof=lambda entry: entry.size,
        )

    async def get(self, *keys: str) -> list[bytes | None]:
        return [self._value(key) for key in keys]

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        self._put(key, value, ttl)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        held = self._entries.get(key)
        if held is not None:
            return held.value
        self._put(key, value, ttl)
        return value

    async def release(self, key: str, value: bytes) -> bool:
        held = self._entries.get(key)
        if held is None or held.value != value:
            return False
        del self._entries[key]
        return True

    async def delete(self, *keys: str) -> None:
        for key in keys:
            self._entries.pop(key, None)

    def _value(self, key: str) -> bytes | None:
        try:
            return self._entries[key].value
        except KeyError:
            return None

    def _put(self, key: str, value: bytes, ttl: float) -> None:
        entry = _Entry(value, ttl, len(key) + len(value) + _OVERHEAD)
        self._entries.pop(key, None)
        if ttl > 0 and entry.size <= self._entries.maxsize:
            self._entries[key] = entry
