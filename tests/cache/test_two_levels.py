"""The cache on `TieredBackend`: two processes' worth of apps in front of one server."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, RedisBackend, TieredBackend
from tests.servers import RedisServer

from .conftest import Connect
from .test_http import Clock


class Shop:
    """One process of an app, as far as its cache can tell."""

    def __init__(self, url: str) -> None:
        self.backend = TieredBackend(RedisBackend(url, timeout=0.5))
        self.cache = Cache(self.backend.store)
        self.app = FastAPI()
        self.app.add_middleware(CacheMiddleware)
        self.calls = 0
        self.client: httpx2.AsyncClient

        @self.app.get("/items/{item_id}")
        @self.cache(ttl=60, tags=["items", "item:{item_id}"])
        async def item(item_id: int) -> int:
            self.calls += 1
            return item_id

    async def status(self) -> str:
        """Why the answer was a hit or a miss."""
        answer = await self.client.get("/items/1")
        assert (answer.status_code, answer.text) == (200, "1")
        status: str = answer.headers["cache-status"]
        return status

    async def warm_up(self) -> None:
        async with asyncio.timeout(5):
            while "; hit" not in await self.status():
                await asyncio.sleep(0.005)


@pytest.fixture
async def shops(fault_server: RedisServer, connect: Connect) -> AsyncIterator[tuple[Shop, Shop]]:
    async with AsyncExitStack() as stack:
        here, there = Shop(fault_server.url), Shop(fault_server.url)
        for shop in (here, there):
            await stack.enter_async_context(shop.backend)
            shop.client = await stack.enter_async_context(connect(shop.app))
        yield here, there


def _processed(server: RedisServer) -> int:
    stats = server.command("INFO", "commandstats")
    return sum(
        int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "get:calls" in line
    )


async def test_a_hit_with_its_tags_sends_no_command(
    shops: tuple[Shop, Shop], fault_server: RedisServer
) -> None:
    for shop in shops:
        await shop.warm_up()
    before = _processed(fault_server)
    for shop in shops:
        for _ in range(50):
            assert "; hit" in await shop.status()
    assert _processed(fault_server) == before


async def test_an_invalidation_elsewhere_is_obeyed_within_50_ms_and_here_at_once(
    shops: tuple[Shop, Shop],
) -> None:
    here, there = shops
    took = []
    for number in range(15):
        for shop in shops:
            await shop.warm_up()
        assert await here.cache.invalidate(tag="items" if number % 2 else "item:1")
        began = time.perf_counter()
        calls = here.calls + there.calls
        async with asyncio.timeout(5):
            while here.calls + there.calls == calls:
                await there.status()
                await asyncio.sleep(0)  # a hit in this process gives nothing else a turn
        took.append(time.perf_counter() - began)
        await there.warm_up()
        assert await there.cache.invalidate(tag="items")
        calls = there.calls
        await there.status()
        assert there.calls == calls + 1
    assert statistics.median(took) < 0.05


async def test_warm_answers_stay_up_while_the_server_is_down_and_its_return_is_noticed(
    shops: tuple[Shop, Shop], fault_server: RedisServer
) -> None:
    here, there = shops
    for shop in shops:
        await shop.warm_up()
    calls = [shop.calls for shop in shops]
    fault_server.kill()
    for _ in range(20):
        for shop in shops:
            assert "; hit" in await shop.status()
    assert [shop.calls for shop in shops] == calls
    assert not await here.cache.invalidate(tag="items")
    assert "; hit" not in await here.status(), "what one asked to forget is not served here"
    fault_server.start()
    async with asyncio.timeout(5):
        while there.calls == calls[1]:
            await there.status()
            await asyncio.sleep(0.02)
    await there.warm_up()


async def test_stale_answers_stay_up_too_while_the_server_is_down(
    fault_server: RedisServer, connect: Connect
) -> None:
    clock = Clock()
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    async with TieredBackend(RedisBackend(fault_server.url, timeout=0.5)) as backend, connect(app) as client:
        cache = Cache(backend.store, clock=clock)
        broken = False

        for option in ("stale", "stale_if_error"):

            @app.get(f"/{option}")
            @cache(ttl=10, **{option: 100})  # type: ignore[arg-type]  # seconds, for either
            async def index() -> str:
                if broken:
                    raise RuntimeError("broken")
                return "old"

        async with asyncio.timeout(5):
            for option in ("stale", "stale_if_error"):
                while "; hit" not in (await client.get(f"/{option}")).headers["cache-status"]:
                    await asyncio.sleep(0.005)
                await client.get(f"/{option}")
        fault_server.kill()
        broken = True
        clock.now += 20
        for option in ("stale", "stale_if_error"):
            for _ in range(3):
                answer = await client.get(f"/{option}")
                assert (answer.status_code, answer.json()) == (200, "old")
