"""URLs that are answered before the router are answered as if they were not."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.routing import Host

from fastapi_prodkit import Cache, CacheMiddleware
from fastapi_prodkit._routes import RouteTable

from .conftest import Connect


class Seen:
    """A middleware outside that keeps the scopes, as a logger would look at them."""

    def __init__(self, app: Any, scopes: list[Any]) -> None:
        self.app, self.scopes = app, scopes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.app(scope, receive, send)


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that reached a cached endpoint."""
    from fastapi_prodkit.cache.route import CachedRoute

    paths: list[str] = []
    call = CachedRoute.__call__

    async def watched(self: Any, slot: Any, plan: Any, kwargs: Any) -> Any:
        paths.append(slot.original["path"])
        return await call(self, slot, plan, kwargs)

    monkeypatch.setattr(CachedRoute, "__call__", watched)
    return paths


def _fields(response: httpx2.Response) -> list[tuple[str, str]]:
    return sorted(response.headers.multi_items())


async def test_the_short_way_gives_the_same_response_and_the_same_scope(
    cache: Cache, connect: Connect, routed: list[str]
) -> None:
    app, router = FastAPI(), APIRouter()
    scopes: list[Any] = []
    app.add_middleware(CacheMiddleware)
    app.add_middleware(Seen, scopes=scopes)
    calls = []

    @router.get("/items/{item_id}")
    @cache(ttl=60, tags=["item:{item_id}"])
    async def get_item(item_id: int, q: str = "") -> dict[str, Any]:
        calls.append(item_id)
        return {"id": item_id, "q": q}

    app.include_router(router, prefix="/v1")
    async with connect(app) as client:
        answers = [await client.get("/v1/items/3?q=a") for _ in range(3)]
        unchanged = await client.get("/v1/items/3?q=a", headers={"if-none-match": answers[0].headers["etag"]})
        assert len(routed) == 1
        long_way = await client.get("/v1/items/3?q=a&other=1")
        assert len(routed) == 2
        assert calls == [3]
        await cache.invalidate(get_item, 3)
        assert "stored" in (await client.get("/v1/items/3?q=a")).headers["cache-status"]
        assert "stored" in (await client.get("/v1/items/4?q=a")).headers["cache-status"]
    assert unchanged.status_code == 304
    assert [answer.content for answer in answers] == [long_way.content] * 3
    assert _fields(answers[2]) == _fields(long_way)
    table = RouteTable(app)
    assert {table.template(scope) for scope in scopes} == {"/v1/items/{item_id}"}
    assert [scope["path_params"] for scope in scopes[:3]] == [{"item_id": "3"}] * 3


async def test_who_brings_credentials_goes_the_long_way_unless_shared(
    connect: Connect, routed: list[str]
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/own")
    @cache(ttl=60)
    async def own() -> int:
        calls.append(1)
        return len(calls)

    @app.get("/shared")
    @cache(ttl=60, shared=True)
    async def shared() -> int:
        return 0

    async with connect(app) as client:
        for headers in ({}, {"cookie": "a=1"}, {"authorization": "x"}, {"x-api-key": "y"}):
            assert (await client.get("/own", headers=headers)).json() == len(calls)
            await client.get("/shared", headers=headers)
        with cache.disabled():
            assert (await client.get("/own")).json() == 5
    assert len(calls) == 5
    assert routed.count("/shared") == 1


async def test_ways_that_depend_on_more_than_the_url_are_not_shortened(
    connect: Connect, routed: list[str]
) -> None:
    cache = Cache()

    async def gate() -> None:
        return None

    class OwnRoute(APIRoute):
        pass

    def build(kind: str) -> FastAPI:
        app = FastAPI()
        app.add_middleware(CacheMiddleware)
        target: Any = app
        if kind == "own route class":
            target = APIRouter(route_class=OwnRoute)
        if kind == "mount":
            target = FastAPI()
        if kind == "host":
            app.router.routes.append(Host("other.test", FastAPI()))
        options: dict[str, Any] = {"dependencies": [Depends(gate)]} if kind == "dependency" else {}
        if kind == "reader":

            @target.get("/x")  # type: ignore[untyped-decorator]  # an app or a router
            @cache(ttl=60, shared=True)
            async def read(request: Request) -> str:
                return request.url.path

        else:

            @target.get("/x", **options)  # type: ignore[untyped-decorator]  # an app or a router
            @cache(ttl=60)
            async def get() -> str:
                return kind

        if kind == "own route class":
            app.include_router(target)
        if kind == "mount":
            app.mount("/m", target)
        return app

    for kind in ("own route class", "mount", "host", "dependency", "reader"):
        routed.clear()
        async with connect(build(kind)) as client:
            for _ in range(3):
                answer = await client.get("/m/x" if kind == "mount" else "/x")
                assert answer.status_code == 200
        assert "; hit" in answer.headers["cache-status"]
        assert len(routed) == 3, kind


async def test_a_route_that_was_removed_is_gone_from_the_short_way_too(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def index() -> int:
        return 1

    async with connect(app) as client:
        for _ in range(2):
            assert (await client.get("/")).status_code == 200
        app.router.routes.pop()
        assert (await client.get("/")).status_code == 404
