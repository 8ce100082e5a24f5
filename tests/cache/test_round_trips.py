"""How often the cache goes to the server and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, RedisBackend

from ..servers import RedisServer
from .conftest import Connect


class Wire:
    """Stands between the backend and the server, and counts what is sent together."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self.trips = 0
        self._served: list[Any] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with listener:
            yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        await asyncio.gather(*self._served)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.append(asyncio.current_task())
        back, forth = await asyncio.open_connection(self._server.hostname, self._server.port)
        await asyncio.gather(self._copy(back, writer), self._copy(reader, forth, counted=True))

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool = False
    ) -> None:
        while data := await source.read(1 << 20):
            self.trips += counted
            target.write(data)
        target.close()
        await target.wait_closed()


@pytest.fixture
async def wire(redis_server: RedisServer) -> Wire:
    return Wire(redis_server.url)


async def test_a_hit_with_its_tags_is_one_round_trip(wire: Wire, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    async with wire.opened() as url, RedisBackend(url, timeout=5) as backend, connect(app) as client:
        cache = Cache(backend.store)

        @app.get("/items/{item_id}")
        @cache(ttl=60, tags=["items", "shop", "item:{item_id}"])
        async def item(item_id: int) -> int:
            return item_id

        await client.get("/items/1")
        for _ in range(5):
            before = wire.trips
            assert "; hit" in (await client.get("/items/1")).headers["cache-status"]
            assert wire.trips == before + 1


@pytest.mark.parametrize("how", ["arguments", "tag", "tags", "function", "everything"])
async def test_an_invalidation_is_one_round_trip_however_much_it_concerns(wire: Wire, how: str) -> None:
    async with wire.opened() as url, RedisBackend(url, timeout=5) as backend:
        cache = Cache(backend.store)
        calls = []

        @cache(ttl=60, tags=["some", "more"])
        async def compute(number: int, other: int) -> int:
            calls.append(number)
            return other

        for other in range(100):
            await compute(1, other)
        before = wire.trips
        if how == "arguments":
            await cache.invalidate(compute, 1, 7)
        elif how == "tag":
            await cache.invalidate(tag="some")
        elif how == "tags":
            await cache.invalidate_tags("some", "more", "others")
        else:
            await (cache.clear(compute) if how == "function" else cache.clear())
        assert wire.trips == before + 1
        calls.clear()
        for other in range(100):
            await compute(1, other)
        assert len(calls) == (1 if how == "arguments" else 100)
