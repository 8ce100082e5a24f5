from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import Body, Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend
from fastapi_prodkit.typing import Backend

from .conftest import Connect
from .test_http import Clock


async def _settled(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]  # any callable
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_stale_answer_is_served_at_once_and_refreshed_once(
    backend: Backend, connect: Connect, processes: int
) -> None:
    if processes == 2 and isinstance(backend, MemoryBackend):
        return  # memory is of one process
    clock = Clock()
    opened: list[str] = []
    calls: list[int] = []
    refreshing = asyncio.Event()

    async def session() -> AsyncIterator[int]:
        opened.append("open")
        yield 1
        opened.append("close")

    def build() -> FastAPI:
        cache = Cache(backend.store, clock=clock)
        app = FastAPI()
        app.add_middleware(CacheMiddleware)

        @app.get("/{name}")
        @cache(ttl=10, stale=30)
        async def read(name: str, value: int = Depends(session)) -> int:
            calls.append(value)
            if len(calls) > 1:
                await refreshing.wait()
            return len(calls)

        return app

    app = build()
    async with connect(app) as one, connect(build() if processes == 2 else app) as other:
        assert (await one.get("/a")).json() == 1
        clock.now += 20
        opened.clear()
        answers = [await client.get("/a") for client in (one, other) for _ in range(5)]
        assert [answer.json() for answer in answers] == [1] * 10
        assert {answer.headers["age"] for answer in answers} == {"20"}
        assert {answer.headers["cache-status"] for answer in answers} == {"prodkit; hit; ttl=-10"}
        await _settled(lambda: len(calls) == 2)
        refreshing.set()
        await _settled(lambda: len(opened) >= 22)
        assert opened.count("open") == opened.count("close"), "the refresh opened and closed its own"
        for client in (one, other):
            assert (await client.get("/a")).json() == 2
        clock.now += 45
        assert (await one.get("/a")).json() == 3, "too old to be served"
    assert len(calls) == 3


@pytest.mark.parametrize("control", ["must-revalidate", "max-age=10, proxy-revalidate", "s-maxage=10"])
@pytest.mark.parametrize("option", ["stale", "stale_if_error"])
@pytest.mark.parametrize("injected", [False, True])
async def test_what_must_not_be_stale_is_not(
    connect: Connect, control: str, option: str, *, injected: bool
) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    status = 200

    @app.get("/")
    @cache(ttl=10, **{option: 100})  # type: ignore[arg-type]  # seconds, for either
    async def index(response: Response) -> Any:
        response.headers["cache-control"] = control
        response.status_code = status
        return 1 if injected else JSONResponse(1, status, {"cache-control": control})

    async with connect(app) as client:
        await client.get("/")
        assert "hit" in (await client.get("/")).headers["cache-status"]
        clock.now += 20
        status = 503
        assert (await client.get("/")).status_code == 503


@pytest.mark.parametrize("kind", ["form", "json", "raw", "raw stream"])
async def test_a_stale_answer_to_a_body_is_followed_by_a_new_one(connect: Connect, kind: str) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    calls: list[str] = []

    async def whole(request: Request) -> str:
        return (await request.body()).decode()

    async def parts(request: Request) -> str:
        return b"".join([part async for part in request.stream()]).decode()

    params = {"form": Form(), "json": Body(), "raw": Depends(whole), "raw stream": Depends(parts)}
    bodies: dict[str, Any] = {"form": {"data": {"word": "x"}}, "json": {"json": "x"}}
    is_gone = kind in ("form", "raw stream")

    @app.post("/")
    @cache(ttl=10, stale=30, methods=["POST"], key=lambda word: word)
    async def search(word: str = params[kind]) -> str:
        calls.append(word)
        return f"{word} {len(calls)}"

    async def ask(client: httpx2.AsyncClient) -> str:
        answer: str = (await client.post("/", **bodies.get(kind, {"content": "x"}))).json()
        return answer

    async with connect(app) as client, asyncio.timeout(5):
        assert await ask(client) == "x 1"
        clock.now += 20
        first = await asyncio.gather(ask(client), ask(client))
        assert set(first) == {"x 2" if is_gone else "x 1"}, "it cannot be asked again behind"
        await _settled(lambda: len(calls) == 2)
        assert await ask(client) == "x 2"


async def test_a_stale_value_is_refreshed_behind_the_call(backend: Backend) -> None:
    clock = Clock()
    cache = Cache(backend.store, clock=clock)
    calls: list[int] = []

    @cache(ttl=10, stale=10)
    async def count() -> int:
        calls.append(1)
        return len(calls)

    assert await count() == 1
    clock.now += 15
    assert await count() == 1
    await _settled(lambda: len(calls) == 2)
    await asyncio.sleep(0.05)
    assert await count() == 2


async def test_an_invalidated_answer_is_not_served_stale(backend: Backend) -> None:
    clock = Clock()
    cache = Cache(backend.store, clock=clock)
    calls: list[int] = []

    @cache(ttl=10, stale=100, stale_if_error=100)
    async def count() -> int:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("no more")
        return len(calls)

    await count()
    await cache.invalidate(count)
    with pytest.raises(ValueError, match="no more"):
        await count()


@pytest.mark.parametrize("kind", ["exception", "503"])
async def test_a_stale_answer_serves_where_computing_fails(
    cache: Cache, connect: Connect, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(cache._engine, "clock", clock)
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    broken = missing = False

    @app.get("/")
    @cache(ttl=10, stale_if_error=50)
    async def index() -> int:
        if missing:
            raise HTTPException(404)
        if broken:
            raise HTTPException(503) if kind == "503" else RuntimeError("broken")
        return 1

    async with connect(app) as client:
        await client.get("/")
        broken = True
        clock.now += 20
        answers = await asyncio.gather(*(client.get("/") for _ in range(5)))
        assert {answer.json() for answer in answers} == {1}
        assert any("computing failed" in answer.headers["cache-status"] for answer in answers)
        missing = True
        assert (await client.get("/")).status_code == 404, "an answer, if an unwelcome one"
        missing = False
        clock.now += 45
        if kind == "503":
            assert (await client.get("/")).status_code == 503


async def test_dear_answers_are_refreshed_before_their_end(backend: Backend) -> None:
    clock = Clock()
    cache = Cache(backend.store, clock=clock)
    calls: list[float] = []

    @cache(ttl=100)
    async def slow() -> int:
        calls.append(clock.now)
        clock.now += 5
        return len(calls)

    random.seed(7)
    began = clock.now
    await slow()
    while len(calls) == 1:
        clock.now += 0.1
        assert await slow() == 1
        await asyncio.sleep(0.001 if clock.now - began > 60 else 0)
        assert clock.now - began < 105.1, "nobody ever waits for it"
    assert 60 < calls[1] - began < 105


@pytest.mark.parametrize("options", [{}, {"early": 1}, {"stale": 50}])
async def test_a_value_is_computed_after_the_call_only_where_the_call_says_so(
    options: dict[str, Any],
) -> None:
    clock = Clock()
    cache = Cache(clock=clock)
    cache._engine.chance = lambda: 0.999999
    calls: list[str] = []
    session = "open"

    async def compute() -> int:
        calls.append(session)
        clock.now += 5
        return len(calls)

    for _ in range(2):
        session = "open"
        assert await cache.get_or_set("value", compute, ttl=100, type=int, **options) == 1
        session = "closed"
        for _ in range(10):
            await asyncio.sleep(0)
        clock.now += 120 if "stale" in options else 60
    assert calls == (["open", "closed"] if options else ["open"])


async def test_cheap_answers_are_not_refreshed_early() -> None:
    clock = Clock()
    cache = Cache(clock=clock)
    calls: list[int] = []

    @cache(ttl=100)
    async def quick() -> int:
        calls.append(1)
        return 1

    await quick()
    for _ in range(990):
        clock.now += 0.1
        await quick()
    assert calls == [1]


async def test_jitter_spreads_the_ends() -> None:
    clock = Clock()
    cache = Cache(clock=clock)
    calls: list[int] = []

    @cache(ttl=100, jitter=0.5)
    async def compute(number: int) -> int:
        calls.append(number)
        return number

    for number in range(100):
        await compute(number)
    clock.now += 75
    for number in range(100):
        await compute(number)
    assert 120 < len(calls) < 180


async def test_a_stale_value_serves_everybody_who_waits_where_computing_fails(cache: Cache) -> None:
    clock = Clock()
    cache._engine.clock = clock
    broken = False

    @cache(ttl=10, stale_if_error=50)
    async def compute() -> int:
        await asyncio.sleep(0.02)
        if broken:
            raise RuntimeError("broken")
        return 1

    await compute()
    broken = True
    clock.now += 20
    assert await asyncio.gather(*(compute() for _ in range(5))) == [1] * 5
    clock.now += 45
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="broken"):
        await compute()


async def test_where_computing_fails_its_error_is_told_if_the_old_value_has_another_shape(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(cache._engine, "clock", clock)
    calls: list[int] = []

    async def before() -> str:
        return "one"

    async def after() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    await cache.get_or_set("value", before, ttl=10, type=str, stale_if_error=50)
    clock.now += 20
    failing = (cache.get_or_set("value", after, ttl=10, type=int, stale_if_error=50) for _ in range(5))
    errors = await asyncio.gather(*failing, return_exceptions=True)
    assert [str(error) for error in errors] == ["broken"] * 5
    assert len(calls) == 1
