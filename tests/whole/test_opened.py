"""A backend that nobody opened stops the start, where each request would fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    ConfigurationError,
    MemoryBackend,
    RateLimiter,
    RateLimitMiddleware,
    RedisBackend,
    Resources,
    TieredBackend,
)

NOWHERE = ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Shop:
    """What an app has of one backend."""

    def __init__(self, backend: RedisBackend | TieredBackend) -> None:
        self.backend = backend
        self.cache = Cache(backend.store)
        self.limiter = RateLimiter(backend.counters)
        self.cached, self.limited = APIRouter(), APIRouter()

        @self.cached.get("/cached")
        @self.cache(ttl=60)
        async def cached() -> int:
            return 1

        @self.limited.get("/limited", dependencies=[Depends(self.limiter("5/minute"))])
        async def limited() -> int:
            return 1

    def app(self, lifespan: Lifespan | None, *routers: APIRouter, everywhere: bool = False) -> FastAPI:
        app = FastAPI(lifespan=lifespan)
        limits = [self.limiter("5/minute", name="all")] if everywhere else []
        app.add_middleware(RateLimitMiddleware, limits=limits)
        app.add_middleware(CacheMiddleware)
        for router in routers:
            app.include_router(router)
        return app

    @asynccontextmanager
    async def opened_by_hand(self, app: Any) -> AsyncIterator[None]:
        async with self.backend:
            yield


@pytest.fixture(params=[*NOWHERE, "tiered"])
def shop(request: pytest.FixtureRequest) -> Shop:
    if request.param == "tiered":
        return Shop(TieredBackend(RedisBackend(NOWHERE[0])))
    return Shop(RedisBackend(request.param))


@pytest.mark.parametrize("lifespan", [None, Resources()], ids=["without a lifespan", "forgotten in it"])
@pytest.mark.parametrize("part", ["cached", "limited", "everywhere"])
def test_a_backend_that_nobody_opened_stops_the_start(
    shop: Shop, part: str, lifespan: Lifespan | None
) -> None:
    routers = [] if part == "everywhere" else [getattr(shop, part)]
    app = shop.app(lifespan, *routers, everywhere=part == "everywhere")
    with pytest.raises(ConfigurationError, match=r"Resources\(backend\)"), TestClient(app):
        pytest.fail("it started")


def test_what_was_started_is_stopped(shop: Shop) -> None:
    log: list[str] = []

    async def resource() -> AsyncIterator[None]:
        log.append("started")
        yield
        log.append("stopped")

    with pytest.raises(ConfigurationError), TestClient(shop.app(Resources(resource), shop.cached)):
        pytest.fail("it started")
    assert log == ["started", "stopped"]


@pytest.mark.parametrize("by", ["Resources", "hand", "a mounted app"])
def test_a_backend_that_is_open_by_then_does_not(shop: Shop, by: str) -> None:
    by_resources, routers = Resources(shop.backend, shop.cache), (shop.cached, shop.limited)
    if by == "Resources":
        app = shop.app(by_resources, *routers, everywhere=True)
    elif by == "hand":
        app = shop.app(shop.opened_by_hand, *routers, everywhere=True)
    else:
        app = shop.app(Resources())
        app.mount("/inner", shop.app(by_resources, *routers, everywhere=True))
    with TestClient(app) as client:
        prefix = "/inner" if by == "a mounted app" else ""
        assert [client.get(f"{prefix}/{path}").status_code for path in ("cached", "limited")] == [200, 200]


async def test_a_backend_that_was_opened_around_the_app_does_not(shop: Shop) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    app = shop.app(None, shop.cached, shop.limited, everywhere=True)
    async with shop.backend:
        running = asyncio.create_task(app({"type": "lifespan", "state": {}}, heard.get, told.put))
        for event in ("startup", "shutdown"):
            heard.put_nowait({"type": f"lifespan.{event}"})
            assert (await told.get())["type"] == f"lifespan.{event}.complete"
        await running


def test_what_a_test_turned_off_needs_no_backend(shop: Shop) -> None:
    app = shop.app(None, shop.cached, shop.limited, everywhere=True)
    with shop.limiter.disabled(), shop.cache.isolated(MemoryBackend().store), TestClient(app) as client:
        assert client.get("/cached").status_code == 200
    with shop.limiter.disabled(), shop.cache.disabled(), TestClient(app) as client:
        assert client.get("/limited").status_code == 200


@pytest.mark.parametrize("by", ["the route", "another dependency", "the whole app"])
def test_a_limit_that_a_test_overrides_needs_no_backend(by: str) -> None:
    rule = RateLimiter(RedisBackend(NOWHERE[0]).counters)("5/minute", name="orders")

    def customer(decision: object = Depends(rule)) -> None: ...

    def nobody() -> None: ...

    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[rule] if by == "the whole app" else [])
    depends = {"the route": [Depends(rule)], "another dependency": [Depends(customer)]}.get(by, [])
    app.add_api_route("/limited", nobody, dependencies=depends)
    app.dependency_overrides[customer if by == "another dependency" else rule] = nobody
    with TestClient(app) as client:
        assert client.get("/limited").status_code == 200
