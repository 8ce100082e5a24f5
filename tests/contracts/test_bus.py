from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_prodkit import MemoryBackend, RedisBackend
from fastapi_prodkit.testing import BusContract
from fastapi_prodkit.typing import Bus


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        async with MemoryBackend() as backend:
            yield backend.bus


class TestRedisBus(BusContract):
    @pytest.fixture
    async def bus(self, every_redis_url: str) -> AsyncIterator[Bus]:
        async with RedisBackend(every_redis_url, timeout=5) as backend:
            yield backend.bus
