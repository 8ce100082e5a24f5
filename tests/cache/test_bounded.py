from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend
from fastapi_prodkit._fastapi import Route, iter_routes
from fastapi_prodkit._startup import check_routes
from fastapi_prodkit.backends.memory import MemoryStore
from fastapi_prodkit.cache.entry import Entry
from fastapi_prodkit.cache.lane import Lane
from fastapi_prodkit.typing import Backend

from .conftest import Connect


async def test_random_query_strings_stay_inside_the_bounds(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(max_bytes=200_000)
    app, cache = FastAPI(), Cache(store)
    app.add_middleware(CacheMiddleware, max_urls=100)
    lanes: list[Lane] = []
    learn = Lane.learn

    def watched(self: Lane, *args: object) -> None:
        lanes.append(self)
        learn(self, *args)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Lane, "learn", watched)

    @app.get("/")
    @cache(ttl=60, tags=["q:{q}"])
    async def search(q: str) -> str:
        return q * 10

    async with connect(app) as client:
        for _ in range(600):
            q = f"{random.getrandbits(64):x}"
            assert (await client.get("/", params={"q": q})).json() == q * 10
        assert (await client.get("/", params={"q": "x" * 4000})).status_code == 200
    assert store._entries.size <= 200_000
    assert 0 < len(store._entries) < 1200
    assert len(lanes[-1]._known) <= 100
    assert not cache._engine._flights
    assert not cache._engine._tasks


async def test_a_million_keys_stay_inside_the_bytes_they_were_given() -> None:
    store = MemoryStore(max_bytes=4 * 1024 * 1024)
    tracemalloc.start()
    for number in range(20_000):
        await store.set(f"cache:entry:{number:030}", b"%0200d" % number, ttl=60)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for number in range(20_000, 1_000_000):
        await store.set(f"cache:entry:{number:030}", b"%0200d" % number, ttl=60)
    assert held <= 4.5 * 1024 * 1024  # the table grows in steps
    assert 4 * 1024 * 1024 * 0.9 < store._entries.size <= 4 * 1024 * 1024
    found = await store.get(f"cache:entry:{999_999:030}", f"cache:entry:{0:030}")
    assert found == [b"%0200d" % 999_999, None]


async def test_a_refused_request_costs_the_same_among_many_routes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    walks = []

    def watched(routes: Any) -> Iterator[Route]:
        walks.append(1)
        return iter_routes(routes)

    monkeypatch.setattr("fastapi_prodkit.cache.priming.iter_routes", watched)

    @app.get("/")
    @cache(ttl=60)
    async def index(number: int) -> int:
        return number

    async with connect(app) as client:
        for number in ("1", "x", "x", "x"):
            await client.get("/", params={"number": number})
    assert len(walks) == 1


def test_a_start_walks_the_routes_once_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []

    def watched(routes: Any) -> Any:
        walks.append(1)
        return iter_route_contexts(routes)

    monkeypatch.setattr("fastapi_prodkit._fastapi.iter_route_contexts", watched)
    counts = []
    for routes in (2, 20):
        app, cache = FastAPI(), Cache()
        app.add_middleware(CacheMiddleware)
        for number in range(routes):

            @app.get(f"/{number}")
            @cache(ttl=60)
            async def index() -> int:
                return 1

        walks.clear()
        check_routes(app)
        counts.append(len(walks))
    assert counts[0] == counts[1]


async def test_long_arguments_stay_inside_the_bounds() -> None:
    cache = Cache(MemoryBackend(max_bytes=100_000).store)

    @cache(ttl=60)
    async def length(text: str) -> int:
        return len(text)

    await length("")
    tracemalloc.start()
    try:
        for number in range(50):
            await length(f"{number} {'x' * 100_000}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000


def test_long_header_fields_stay_inside_the_bounds() -> None:
    def read(number: int) -> None:
        entry = Entry(b"", b"", 1.0, 2.0, 0.0, headers=((b"link", b"%d" % number * 50_000),))
        assert Entry.from_bytes(entry.to_bytes()) == entry

    read(0)
    tracemalloc.start()
    try:
        for number in range(1, 50):
            read(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000


async def test_bodies_over_a_size_are_not_stored_and_values_neither() -> None:
    store = MemoryStore()
    cache = Cache(store, max_bytes=1000)
    calls = []

    @cache(ttl=60)
    async def text(size: int) -> str:
        calls.append(size)
        return "x" * size

    for _ in range(2):
        await text(900)
        await text(2000)
    assert calls == [900, 2000, 2000]


async def test_compressed_bodies_come_back_to_the_byte(backend: Backend, connect: Connect) -> None:
    app, cache = FastAPI(), Cache(backend.store, compress_above=100)
    app.add_middleware(CacheMiddleware)
    sizes = []
    keep = backend.store.set

    async def watched(key: str, value: bytes, *, ttl: float) -> None:
        sizes.append(len(value))
        await keep(key, value, ttl=ttl)

    backend.store.set = watched  # type: ignore[method-assign]  # to see what is kept

    @app.get("/")
    @cache(ttl=60)
    async def index() -> str:
        return "all work and no play " * 1000

    async with connect(app) as client:
        miss, hit = await client.get("/"), await client.get("/")
    assert miss.content == hit.content
    assert "; hit" in hit.headers["cache-status"]
    assert len(hit.content) > 20_000
    assert max(sizes) < 1000


fields = st.lists(
    st.tuples(st.binary(), st.binary()).map(
        lambda pair: tuple(each.replace(b"\n", b"").replace(b"\r", b"") for each in pair)
    ),
    max_size=4,
)


@given(headers=fields, extra=fields, body=st.binary(), stamps=st.binary(max_size=48), packed=st.booleans())
def test_an_entry_comes_back_as_it_was(
    headers: list[tuple[bytes, bytes]],
    extra: list[tuple[bytes, bytes]],
    body: bytes,
    stamps: bytes,
    *,
    packed: bool,
) -> None:
    entry = Entry(body, stamps, 1.5, 2.5, 0.5, 203, tuple(headers), tuple(extra), (b"x-a", b"b"), True)
    assert Entry.from_bytes(entry.to_bytes(compress_above=0 if packed else 1e9)) == entry


@given(st.binary())
def test_foreign_bytes_are_no_entry(raw: bytes) -> None:
    assert Entry.from_bytes(raw) is None


@given(st.data())
def test_damaged_bytes_never_raise(data: st.DataObject) -> None:
    whole = Entry(b"body", b"s" * 24, 1.0, 2.0, 0.1, headers=((b"a", b"b"),)).to_bytes(compress_above=1)
    cut = data.draw(st.integers(0, len(whole)))
    Entry.from_bytes(whole[:cut])
    place = data.draw(st.integers(4, len(whole) - 1))
    Entry.from_bytes(whole[:place] + struct.pack("B", data.draw(st.integers(0, 255))) + whole[place + 1 :])


async def test_what_a_stranger_wrote_into_the_store_is_computed_anew(backend: Backend) -> None:
    cache = Cache(backend.store)
    keys: list[str] = []
    look = backend.store.get

    async def watched(*asked: str) -> list[bytes | None]:
        keys.append(asked[0])
        return await look(*asked)

    backend.store.get = watched  # type: ignore[method-assign]  # to learn the key

    @cache(ttl=60)
    async def compute() -> int:
        return 1

    await compute()
    await backend.store.set(keys[0], b"\x80\x04cos\nsystem\n", ttl=60)
    assert await compute() == 1


async def test_two_caches_on_one_memory_share_what_is_stored() -> None:
    backend = MemoryBackend()
    calls = []

    async def compute() -> int:
        calls.append(1)
        return 1

    for cache in (Cache(backend.store), Cache(backend.store)):
        await cache.get_or_set("x", compute, ttl=60)
    assert calls == [1]
