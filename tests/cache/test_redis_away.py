from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, RedisBackend

from ..servers import RedisServer
from .conftest import Connect


class Shop:
    """An app whose cache is on a server that will be away."""

    def __init__(self, backend: RedisBackend) -> None:
        self.cache = Cache(backend.store)
        self.app = FastAPI()
        self.app.add_middleware(CacheMiddleware)
        self.calls = 0

        @self.app.get("/")
        @self.cache(ttl=60, tags=["all"])
        async def index() -> int:
            self.calls += 1
            return self.calls


@pytest.fixture
async def shop(fault_server: RedisServer) -> AsyncIterator[Shop]:
    async with RedisBackend(fault_server.url) as backend:
        yield Shop(backend)


async def _timed(client: httpx2.AsyncClient) -> float:
    began = time.perf_counter()
    response = await client.get("/")
    assert response.status_code == 200
    return time.perf_counter() - began


async def _until_hit(client: httpx2.AsyncClient, *, within: float) -> None:
    async with asyncio.timeout(within):
        while "; hit" not in (await client.get("/")).headers["cache-status"]:
            await asyncio.sleep(0.02)


async def test_a_killed_server_costs_nothing_and_its_return_is_noticed(
    shop: Shop, fault_server: RedisServer, connect: Connect
) -> None:
    async with connect(shop.app) as client:
        await _until_hit(client, within=2)
        fault_server.kill()
        times = [await _timed(client) for _ in range(20)]
        assert times[0] < 0.5
        assert sum(times[1:]) < 0.9, "not a timeout each"
        answer = await client.get("/")
        assert answer.headers["cache-status"] == "prodkit; fwd=miss"
        fault_server.start()
        await _until_hit(client, within=2)


async def test_a_hung_server_costs_one_timeout(
    shop: Shop, fault_server: RedisServer, connect: Connect
) -> None:
    async with connect(shop.app) as client:
        await _until_hit(client, within=2)
        fault_server.hang()
        times = [await _timed(client) for _ in range(20)]
        fault_server.resume()
        assert 0.05 < times[0] < 0.5
        assert sum(times[1:]) < 0.9, "not a timeout each"
        await _until_hit(client, within=2)


async def test_an_app_starts_without_its_server(connect: Connect) -> None:
    server = RedisServer()
    try:
        async with RedisBackend(server.url) as backend:
            shop = Shop(backend)
            async with connect(shop.app) as client:
                assert sum([await _timed(client) for _ in range(20)]) < 1, "not a timeout each"
                server.start()
                await _until_hit(client, within=2)
    finally:
        server.close()


async def test_while_the_server_is_away_concurrent_misses_are_still_one_computation(
    shop: Shop, fault_server: RedisServer
) -> None:
    calls = []

    async def compute() -> int:
        calls.append(1)
        await asyncio.sleep(0.2)
        return len(calls)

    fault_server.kill()
    answers = await asyncio.gather(*(shop.cache.get_or_set("x", compute, ttl=60) for _ in range(50)))
    assert set(answers) == {1}


async def test_an_invalidation_while_the_server_hangs_is_owed_and_paid(
    shop: Shop, fault_server: RedisServer, connect: Connect
) -> None:
    async with (
        connect(shop.app) as client,
        RedisBackend(fault_server.url, timeout=5) as other,
    ):
        await _until_hit(client, within=2)
        before = (await client.get("/")).json()
        fault_server.hang()
        assert await shop.cache.invalidate(tag="all") is False
        assert (await client.get("/")).json() > before
        fault_server.resume()
        assert (await client.get("/")).json() > before
        await asyncio.sleep(0)
        await _until_hit(client, within=2)
        assert (await client.get("/")).json() > before
        elsewhere = Shop(other)
        elsewhere.calls = 1000
        async with connect(elsewhere.app) as there:
            assert (await there.get("/")).json() != before
