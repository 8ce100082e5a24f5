"""One and three keys read from Redis in an endpoint: redis-py by hand, and a `Store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from fastapi_prodkit import MemoryBackend, RedisBackend, TieredBackend
from fastapi_prodkit.typing import Backend

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from .rate_limit import bare, prebuilt

KEYS = ("first", "second", "third")
VALUE = b"x" * 200


async def check(build: Build, rig: Rig) -> None:
    """It answers how many bytes it read."""
    async with opened(build(rig)) as client:
        found = (await client.ask()).json()
        assert found in (len(VALUE), 3 * len(VALUE)), f"read {found} bytes"


def _app(reading: Callable[[], AsyncIterator[Callable[[], Awaitable[list[bytes | None]]]]]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asynccontextmanager(reading)() as app.state.read:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def endpoint() -> int:
        return sum(len(value or b"") for value in await app.state.read())

    return app


def _by_hand(count: int) -> Build:
    def build(rig: Rig) -> FastAPI:
        async def reading() -> AsyncIterator[Callable[[], Awaitable[list[bytes | None]]]]:
            import redis.asyncio

            client: Any
            async with redis.asyncio.from_url(rig.redis_url) as client:
                for key in KEYS:
                    await client.set(key, VALUE, ex=3600)

                async def one() -> list[bytes | None]:
                    return [await client.get(KEYS[0])]

                async def several() -> list[bytes | None]:
                    found: list[bytes | None] = await client.mget(*KEYS)
                    return found

                yield one if count == 1 else several

        return _app(reading)

    return build


def _store(count: int, backend: Callable[[str], Backend]) -> Build:
    def build(rig: Rig) -> FastAPI:
        async def reading() -> AsyncIterator[Callable[[], Awaitable[list[bytes | None]]]]:
            async with backend(rig.redis_url) as place:
                for key in KEYS:
                    await place.store.set(key, VALUE, ttl=3600)

                async def read() -> list[bytes | None]:
                    return await place.store.get(*KEYS[:count])

                yield read

        return _app(reading)

    return build


def _redis(url: str) -> Backend:
    return RedisBackend(url, timeout=5)


def _tiered(url: str) -> Backend:
    return TieredBackend(RedisBackend(url, timeout=5))


def _memory(url: str) -> Backend:
    return MemoryBackend()


_CONTENDERS = [
    Contender(BARE, bare, note="reads nothing", yardstick=True),
    Contender(LIMIT, prebuilt, note="reads nothing", yardstick=True),
    Contender("redis-py, one key", _by_hand(1), "redis", "`client.get`"),
    Contender("redis-py, three keys", _by_hand(3), "redis", "`client.mget`"),
    Contender("fastapi-prodkit RedisStore, one key", _store(1, _redis), "fastapi-prodkit"),
    Contender("fastapi-prodkit RedisStore, three keys", _store(3, _redis), "fastapi-prodkit"),
    Contender("fastapi-prodkit TieredStore, three keys", _store(3, _tiered), "fastapi-prodkit", "no command"),
    Contender("fastapi-prodkit MemoryStore, three keys", _store(3, _memory), "fastapi-prodkit"),
]

_TEXT = "An endpoint that reads values of 200 bytes and answers their length."

SUITES = [
    Suite(
        name="store",
        title="Reading a store",
        text=_TEXT + " One request after another: the round trip counts in full.",
        contenders=_CONTENDERS,
        check=check,
        waits=True,
    ),
    Suite(
        name="store-32",
        title="Reading a store, 32 requests at once",
        text=_TEXT + " 32 requests at any time, as a busy worker has.",
        contenders=_CONTENDERS,
        check=check,
        waits=True,
        at_once=32,
    ),
]
