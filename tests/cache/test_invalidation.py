from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, ConfigurationError, MemoryBackend, RedisBackend
from fastapi_prodkit.backends.memory import MemoryStore
from fastapi_prodkit.cache import stamps
from fastapi_prodkit.errors import UnavailableError
from fastapi_prodkit.typing import Backend

from .conftest import Connect


class Truth:
    """What is cached: a version that only grows, and takes a moment to read."""

    def __init__(self) -> None:
        self.version = 0

    async def read(self) -> int:
        before = self.version
        await asyncio.sleep(random.random() * 0.002)
        return before


async def _race(writer: Cache, readers: list[Cache], name: str) -> tuple[int, int]:
    """Invalidate a hundred times while others read; count hits computed from before, and reads."""
    truth = Truth()
    stale = reads = 0
    finished = 0  # the last version whose invalidation has returned

    async def read(cache: Cache) -> None:
        nonlocal stale, reads
        least = finished
        value = await cache.get_or_set(name, truth.read, ttl=60, tags=[name])
        stale += value < least
        reads += 1

    async def read_on(cache: Cache) -> None:
        while finished < 100:
            await read(cache)
            await asyncio.sleep(0)  # a hit in memory never suspends

    tasks = [asyncio.create_task(read_on(cache)) for cache in readers]
    for _ in range(100):
        truth.version += 1
        assert await writer.invalidate(tag=name)
        finished = truth.version
        await read(random.choice(readers))
    await asyncio.gather(*tasks)
    return stale, reads


async def _races(writer: Cache, readers: list[Cache]) -> None:
    results = await asyncio.gather(*(_race(writer, readers, f"truth {number}") for number in range(10)))
    assert sum(stale for stale, _ in results) == 0
    assert sum(reads for _, reads in results) > 1000


async def test_no_stale_answer_in_a_thousand_invalidations(backend: Backend) -> None:
    cache = Cache(backend.store)
    await _races(cache, [cache])


async def test_no_stale_answer_after_an_invalidation_from_another_process(redis_url: str) -> None:
    async with RedisBackend(redis_url, timeout=5) as here, RedisBackend(redis_url, timeout=5) as there:
        await _races(Cache(there.store), [Cache(here.store), Cache(there.store)])


async def test_an_invalidation_during_a_miss_holds_for_what_is_stored_then(
    cache: Cache, connect: Connect
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    value = "old"
    computing, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/{name}")
    @cache(ttl=60)
    async def read(name: str) -> str:
        seen = value
        computing.set()
        await go_on.wait()
        return seen

    async with connect(app) as client:
        first = asyncio.create_task(client.get("/a"))
        await computing.wait()
        value = "new"
        await cache.invalidate(read, "a")
        joining = asyncio.create_task(client.get("/a"))
        await asyncio.sleep(0.02)
        go_on.set()
        assert (await first).json() == "old"
        assert (await joining).json() == "new", "who came after the invalidation does not join the old miss"
        assert (await client.get("/a")).json() == "new"


async def test_arguments_are_taken_as_the_route_takes_them(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/search")
    @cache(ttl=60)
    async def search(q: str, page: int = 1) -> int:
        calls.append((q, page))
        return len(calls)

    async with connect(app) as client:
        for _ in range(2):
            await client.get("/search?q=a&page=1")
            await client.get("/search?q=a&page=2")
        await cache.invalidate(search, q="a", page="1")  # type: ignore[call-overload]  # as from a form
        await client.get("/search?q=a&page=1")
        await client.get("/search?q=a&page=2")
    assert calls == [("a", 1), ("a", 2), ("a", 1)]


class _Word(StrEnum):
    A = "a"


@pytest.mark.parametrize(
    ("hint", "argument"),
    [
        (float, 1),
        (str, _Word.A),
        (int, True),
        (date, datetime(2026, 1, 2, 3, tzinfo=UTC)),
        (Iterable[int], [1, 2]),
        (Sequence[float], (1, 2)),
        (int, "1"),
    ],
)
async def test_a_value_is_invalidated_by_the_very_arguments_it_was_computed_for(
    cache: Cache, hint: Any, argument: Any
) -> None:
    calls = []

    async def compute(value: Any, *more: int, **named: int) -> int:
        calls.append(value)
        return len(calls)

    compute.__annotations__["value"] = hint
    cached = cache(ttl=60)(compute)

    async def answers() -> list[int]:
        return [await cached(argument), await cached(argument, 1, x=2), await cached(argument, 1, x=3)]

    assert await answers() == [1, 2, 3]
    await cache.invalidate(cached, argument, 1, x=2)
    assert await answers() == [1, 4, 3]
    await cache.invalidate(cached, argument)
    assert await answers() == [5, 4, 3]


async def test_a_value_is_invalidated_by_an_argument_as_from_a_form(cache: Cache) -> None:
    calls = []

    @cache(ttl=60)
    async def compute(number: int) -> int:
        calls.append(number)
        return len(calls)

    await compute(1)
    await cache.invalidate(compute, "1")  # type: ignore[call-overload]  # the case
    assert await compute(1) == 2


async def test_a_route_that_this_process_does_not_serve_is_forgotten_whole(
    backend: Backend, connect: Connect
) -> None:
    def build(cache: Cache) -> tuple[FastAPI, object]:
        app = FastAPI()
        app.add_middleware(CacheMiddleware)

        @app.get("/items/{item_id}")
        @cache(ttl=60)
        async def get_item(item_id: int, q: str = "") -> int:
            calls.append(item_id)
            return item_id

        return app, get_item

    calls: list[int] = []
    app, _ = build(Cache(backend.store))
    elsewhere = Cache(backend.store)
    _, get_item = build(elsewhere)
    async with connect(app) as client:
        await client.get("/items/1")
        await elsewhere.invalidate(get_item, item_id=1)  # type: ignore[call-overload]  # an object, for brevity
        await client.get("/items/1")
    assert calls == [1, 1]


async def test_however_many_invalidations_are_owed_nothing_from_before_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stamps, "_MAX_OWED", 10)
    store = ReadOnlyStore()
    cache, calls = Cache(store), [0] * 30

    @cache(ttl=60, tags=["number:{number}"])
    async def count(number: int) -> int:
        calls[number] += 1
        return calls[number]

    for number in range(30):
        await count(number)
    store.is_read_only = True
    for number in range(30):
        assert await cache.invalidate(tag=f"number:{number}") is False
    assert [await count(number) for number in range(30)] == [2] * 30
    assert [await count(number) for number in range(30)] == [3] * 30, "computed until it is paid"
    store.is_read_only = False
    async with asyncio.timeout(5):
        while await count(0) != await count(0):
            await store.written.wait()
            await asyncio.sleep(0)
    assert [await count(number) for number in range(1, 30)] == [4] * 29
    assert [await count(number) for number in range(1, 30)] == [4] * 29


class ReadOnlyStore(MemoryStore):
    """As a server is while it has no room for writes."""

    is_read_only = False

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        if self.is_read_only:
            self.written.clear()
            raise UnavailableError("read-only")
        await super().set(key, value, ttl=ttl)
        self.written.set()


async def test_a_list_of_tags_is_refused_with_the_mend() -> None:
    with pytest.raises(ConfigurationError, match="give a string, not a list"):
        await Cache().invalidate_tags(["items", "prices"])  # type: ignore[arg-type]  # the point


async def test_what_cannot_be_invalidated_says_why() -> None:
    cache = Cache(MemoryBackend().store)

    async def bare(a: int) -> int:
        return a

    with pytest.raises(ConfigurationError, match="is not decorated by this cache"):
        await cache.invalidate(bare, 1)
    with pytest.raises(ConfigurationError, match="is not decorated by this cache"):
        await cache.invalidate(Cache()(ttl=1)(bare), 1)
