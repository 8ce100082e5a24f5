from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_prodkit import MemoryBackend, RedisBackend
from fastapi_prodkit.testing import Clock, CountersContract
from fastapi_prodkit.typing import Counters


class TestMemoryCounters(CountersContract):
    @pytest.fixture
    async def counters(self, clock: Clock) -> AsyncIterator[Counters]:
        async with MemoryBackend(clock=clock, wall_clock=clock) as backend:
            yield backend.counters


class TestRedisCounters(CountersContract):
    @pytest.fixture
    async def counters(self, every_redis_url: str, clock: Clock) -> AsyncIterator[Counters]:
        async with RedisBackend(every_redis_url, timeout=5, clock=clock) as backend:
            yield backend.counters
