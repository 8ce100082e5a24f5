"""The same cache on a cluster, through a Sentinel, and through a failover."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, RedisBackend
from tests.servers import RedisCluster, RedisSentinel

from .conftest import Connect


@pytest.fixture(params=["redis_cluster", "redis_sentinel"])
def place(request: pytest.FixtureRequest) -> RedisCluster | RedisSentinel:
    found: RedisCluster | RedisSentinel = request.getfixturevalue(request.param)
    return found


def _shop(cache: Cache) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls: dict[int, int] = {}

    @app.get("/items/{item_id}")
    @cache(ttl=60, tags=["items", "item:{item_id}"])
    async def item(item_id: int) -> int:
        calls[item_id] = calls.get(item_id, 0) + 1
        return calls[item_id]

    return app


def _is_hit(answer: httpx2.Response) -> bool:
    return "; hit" in answer.headers["cache-status"]


async def test_an_invalidation_by_tag_reaches_entries_on_every_server(
    place: RedisCluster | RedisSentinel, connect: Connect
) -> None:
    async with RedisBackend(place.url, timeout=5) as backend:
        cache = Cache(backend.store)
        async with connect(_shop(cache)) as client:
            paths = [f"/items/{number}" for number in range(30)]
            assert not any([_is_hit(await client.get(path)) for path in paths])
            assert all([_is_hit(await client.get(path)) for path in paths])
            assert await cache.invalidate(tag="item:7")
            again = [await client.get(path) for path in paths]
            assert [_is_hit(answer) for answer in again] == [number != 7 for number in range(30)]
            assert await cache.invalidate(tag="items")
            assert not any([_is_hit(await client.get(path)) for path in paths])
            assert (await client.get("/items/7")).json() == 3


async def test_no_request_fails_while_the_primary_is_replaced(
    fault_sentinel: RedisSentinel, connect: Connect
) -> None:
    async with RedisBackend(fault_sentinel.url) as backend, connect(_shop(Cache(backend.store))) as client:
        await client.get("/items/1")
        fault_sentinel.primary.kill()
        statuses = set()
        async with asyncio.timeout(20):
            while not (fault_sentinel.has_failed_over() and _is_hit(await client.get("/items/1"))):
                statuses.add((await client.get("/items/1")).status_code)
                await asyncio.sleep(0.02)
        assert statuses == {200}
