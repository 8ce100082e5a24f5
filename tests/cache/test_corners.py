"""Rarer ways through the cache."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    ConfigurationError,
    ProblemError,
    ProblemMiddleware,
    RedisBackend,
    problem,
)

from ..servers import RedisServer
from .conftest import Connect
from .test_http import Clock


async def test_a_route_that_comes_later_by_a_router_is_cached_from_its_second_request(
    connect: Connect,
) -> None:
    app, router, cache = FastAPI(), APIRouter(), Cache()
    app.add_middleware(CacheMiddleware)
    app.include_router(router, prefix="/r")

    async with connect(app) as client:
        assert (await client.get("/r/late")).status_code == 404

        @router.get("/late")
        @cache(ttl=60)
        async def late() -> int:
            return 1

        notes = [(await client.get("/r/late")).headers.get("cache-status") for _ in range(3)]
    assert notes[0] is None
    assert notes[1] == "prodkit; fwd=miss; stored"
    assert notes[2] is not None
    assert "; hit" in notes[2]


async def test_a_file_sent_by_its_path_is_handed_through(connect: Connect) -> None:
    class ByPath(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.pathsend", "path": str(Path(__file__))})

    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def index() -> ByPath:
        return ByPath()

    sent: list[str] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    for _ in range(2):
        await app(dict(scope), receive, send)  # type: ignore[arg-type]  # a server, by hand
    assert sent == ["http.response.start", "http.response.pathsend"] * 2


@pytest.mark.parametrize("kind", ["returned", "injected"])
@pytest.mark.parametrize("stale", [0, 30])
async def test_a_5xx_is_replaced_by_the_stale_answer_and_a_4xx_is_not(
    connect: Connect, kind: str, stale: int
) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    status, calls = 200, 0

    @app.get("/")
    @cache(ttl=10, stale=stale, stale_if_error=100)
    async def index(response: Response) -> Any:
        nonlocal calls
        calls += 1
        response.headers["x-status"] = str(status)
        if kind == "returned":
            return JSONResponse({"status": status}, status, {"x-status": str(status)})
        response.status_code = status
        return {"status": status}

    async with connect(app) as client:
        await client.get("/")
        status = 503
        for _ in range(4):  # with stale= the first ones are answered before a refresh fails
            clock.now += 20
            before = calls
            answer = await client.get("/")
            assert (answer.status_code, answer.json()) == (200, {"status": 200})
            assert answer.headers.get_list("x-status") == ["200"]
            while calls == before or cache._engine._tasks:
                await asyncio.sleep(0)
        status = 404
        assert (await client.get("/")).status_code == 404


@problem(status=404)
class _GoneError(Exception):
    pass


class _UpstreamError(Exception):
    status_code = 429  # what another server said to us


@pytest.mark.parametrize("error", [_GoneError(), HTTPException(403), ProblemError(410)])
async def test_an_error_of_the_client_is_told_and_not_replaced_by_the_stale_answer(
    connect: Connect, error: Exception
) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    app.add_middleware(ProblemMiddleware)
    broken: Exception | None = None

    async def compute() -> int:
        if broken is not None:
            raise broken
        return 1

    value = cache(ttl=10, stale_if_error=100)(compute)
    app.get("/")(cache(ttl=10, stale_if_error=100)(compute))
    async with connect(app) as client:
        assert (await client.get("/")).json() == await value() == 1
        clock.now += 20
        broken = _UpstreamError()
        assert (await client.get("/")).json() == await value() == 1
        broken = error
        assert (await client.get("/")).status_code in (403, 404, 410)
        with pytest.raises(type(error)):
            await value()


async def test_a_refresh_that_fails_is_logged_and_the_old_answer_serves_on(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    broken = False

    @app.get("/")
    @cache(ttl=10, stale=100)
    async def index() -> int:
        if broken:
            raise RuntimeError("broken")
        return 1

    @cache(ttl=10, stale=100)
    async def value() -> int:
        if broken:
            raise RuntimeError("broken")
        return 1

    async with connect(app) as client:
        await client.get("/")
        await value()
        broken = True
        clock.now += 20
        with caplog.at_level(logging.ERROR, "fastapi_prodkit.cache"):
            for _ in range(2):
                assert (await client.get("/")).json() == 1
                assert await value() == 1
                while cache._engine._tasks:
                    await asyncio.sleep(0)
    assert [record.message for record in caplog.records] == ["a refresh failed: RuntimeError"] * 4


async def test_closing_cancels_refreshes() -> None:
    clock = Clock()
    ended: list[str] = []
    cache = Cache(clock=clock)
    calls: list[int] = []

    @cache(ttl=10, stale=100)
    async def slow() -> int:
        calls.append(1)
        if len(calls) > 1:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("cancelled")
        return 1

    async with cache:
        await slow()
        clock.now += 20
        await slow()
        while len(calls) == 1:
            await asyncio.sleep(0)
    assert ended == ["cancelled"]


async def test_arguments_that_name_the_resource_must_all_be_given(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)

    @app.get("/shops/{shop}/items/{item}")
    @cache(ttl=60)
    async def read(shop: str, item: int) -> str:
        return shop

    async with connect(app) as client:
        await client.get("/shops/a/items/1")
        with pytest.raises(ConfigurationError, match="'item' is missing"):
            await cache.invalidate(read, shop="a")  # type: ignore[call-overload]  # the case
        await cache.invalidate(read, shop="a", item=1)
        assert "stored" in (await client.get("/shops/a/items/1")).headers["cache-status"]


async def test_background_tasks_of_the_endpoint_run_when_it_is_computed(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    ran: list[int] = []

    @app.get("/")
    @cache(ttl=60)
    async def index(background: BackgroundTasks) -> int:
        background.add_task(ran.append, 1)
        return 1

    async with connect(app) as client:
        for _ in range(3):
            assert (await client.get("/")).json() == 1
    assert ran == [1]


async def test_a_server_that_goes_between_look_and_lease_is_no_error(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url) as backend:
        cache = Cache(backend.store)
        look = backend.store.get

        async def last_look(*keys: str) -> list[bytes | None]:
            found = await look(*keys)
            fault_server.kill()
            return found

        backend.store.get = last_look  # type: ignore[method-assign]  # to kill it at that moment

        async def compute() -> int:
            return 1

        assert await cache.get_or_set("x", compute, ttl=60) == 1


async def test_a_key_that_is_no_value_is_refused() -> None:
    cache = Cache()

    @cache(ttl=60, key=lambda thing: thing)
    async def load(thing: object) -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"key= of .*load returns no value"):
        await load(object())
