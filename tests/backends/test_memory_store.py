from __future__ import annotations

import asyncio
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastapi_prodkit import MemoryBackend


@pytest.fixture
def no_blocking_calls() -> None:
    """Off: with threads that switch each microsecond it takes what one does for what another calls."""


def test_event_loops_of_several_threads_may_share_one_store() -> None:
    store = MemoryBackend(max_bytes=10_000).store

    async def use(seed: int) -> int:
        chance = random.Random(seed)
        for _ in range(5000):
            key = str(chance.randrange(40))
            await store.set(key, b"x" * chance.randrange(200), ttl=60)
            await store.get(key, str(chance.randrange(40)))
            await store.delete(str(chance.randrange(40)))
        return seed

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda seed: asyncio.run(use(seed)), range(4))) == [0, 1, 2, 3]
    finally:
        sys.setswitchinterval(before)
