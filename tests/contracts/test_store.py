from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_prodkit import MemoryBackend, RedisBackend
from fastapi_prodkit.testing import StoreContract
from fastapi_prodkit.typing import Store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with MemoryBackend() as backend:
            yield backend.store


class TestRedisStore(StoreContract):
    @pytest.fixture
    async def store(self, every_redis_url: str) -> AsyncIterator[Store]:
        async with RedisBackend(every_redis_url, timeout=5) as backend:
            yield backend.store
