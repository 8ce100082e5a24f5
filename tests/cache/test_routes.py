from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Response
from pydantic import AwareDatetime, BaseModel, HttpUrl, IPvAnyAddress, PastDate, PostgresDsn, TypeAdapter

from fastapi_prodkit import Cache, CacheMiddleware

from .conftest import Connect


class Item(BaseModel):
    id: int
    made: int


def status(response: object) -> str:
    return str(response.headers["cache-status"])  # type: ignore[attr-defined]  # an httpx response


async def test_a_hit_is_the_stored_response_and_says_so(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/items/{item_id}")
    @cache(ttl=60)
    async def get_item(item_id: int) -> Item:
        calls.append(item_id)
        return Item(id=item_id, made=len(calls))

    async with connect(app) as client:
        miss = await client.get("/items/1")
        hit = await client.get("/items/1")
        other = await client.get("/items/2")
    assert calls == [1, 2]
    assert miss.json() == hit.json() == {"id": 1, "made": 1}
    assert other.json() == {"id": 2, "made": 2}
    assert status(miss) == "prodkit; fwd=miss; stored"
    assert status(hit).startswith("prodkit; hit; ttl=")
    assert hit.headers["age"] == "0"
    assert miss.headers["etag"] == hit.headers["etag"]


async def test_invalidation_by_route_and_arguments_forgets_every_variant(
    cache: Cache, connect: Connect
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/items/{item_id}")
    @cache(ttl=60)
    async def get_item(item_id: int, lang: str = "en") -> int:
        calls.append((item_id, lang))
        return len(calls)

    async with connect(app) as client:
        for _ in range(2):
            for url in ("/items/3", "/items/3?lang=de", "/items/4"):
                await client.get(url)
        assert calls == [(3, "en"), (3, "de"), (4, "en")]
        assert await cache.invalidate(get_item, item_id=3)
        for url in ("/items/3", "/items/3?lang=de", "/items/4"):
            await client.get(url)
    assert calls[3:] == [(3, "en"), (3, "de")]


async def test_invalidation_by_tag_and_of_everything(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/items/{item_id}")
    @cache(ttl=60, tags=["items", "item:{item_id}"])
    async def get_item(item_id: int) -> int:
        calls.append(item_id)
        return item_id

    @app.get("/other")
    @cache(ttl=60)
    async def other() -> int:
        calls.append(0)
        return 0

    async with connect(app) as client:

        async def visit() -> list[int]:
            calls.clear()
            for url in ("/items/1", "/items/2", "/other"):
                await client.get(url)
            return calls[:]

        assert await visit() == [1, 2, 0]
        assert await visit() == []
        await cache.invalidate(tag="item:2")
        assert await visit() == [2]
        await cache.invalidate_tags("items")
        assert await visit() == [1, 2]
        await cache.clear()
        assert await visit() == [1, 2, 0]
        await cache.clear(other)
        assert await visit() == [0]


async def test_dependencies_run_on_hits_and_their_headers_are_fresh(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    seen = []

    async def gate(response: Response, key: Annotated[str, Header()] = "") -> None:
        seen.append(key)
        response.headers["x-seen"] = str(len(seen))
        response.set_cookie("visit", str(len(seen)))
        if key == "bad":
            raise HTTPException(403)

    @app.get("/", dependencies=[Depends(gate)])
    @cache(ttl=60)
    async def index(response: Response) -> int:
        response.headers["x-own"] = "yes"
        return len(seen)

    async with connect(app) as client:
        miss = await client.get("/", headers={"key": "a"})
        client.cookies.clear()
        hit = await client.get("/", headers={"key": "a"})
        refused = await client.get("/", headers={"key": "bad"})
    assert refused.status_code == 403
    assert miss.json() == 1
    assert [miss.headers["x-seen"], hit.headers["x-seen"]] == ["1", "2"]
    assert miss.headers["x-own"] == hit.headers["x-own"] == "yes"
    assert "visit=2" in hit.headers["set-cookie"]
    assert "key" in hit.headers["vary"]


async def test_a_route_of_an_included_router_below_a_mount_is_cached(cache: Cache, connect: Connect) -> None:
    app, inner = FastAPI(), FastAPI()
    app.add_middleware(CacheMiddleware)
    router, leaf = APIRouter(), APIRouter()
    calls = []

    @leaf.get("/x")
    @cache(ttl=60)
    async def x() -> int:
        calls.append(1)
        return len(calls)

    router.include_router(leaf, prefix="/leaf")
    inner.include_router(router, prefix="/a")
    inner.include_router(router, prefix="/b")
    app.mount("/m", inner)
    app.mount("/n", inner)
    async with connect(app) as client:
        first = [
            (await client.get(f"{mount}{branch}/leaf/x")).json()
            for mount in ("/m", "/n")
            for branch in ("/a", "/b")
        ]
        second = [
            (await client.get(f"{mount}{branch}/leaf/x")).json()
            for mount in ("/m", "/n")
            for branch in ("/a", "/b")
        ]
    assert first == second == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        (AwareDatetime, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        (PastDate, "2020-01-01", "2020-01-02"),
        (HttpUrl, "http://a.test/", "http://b.test/"),
        (PostgresDsn, "postgres://u:p@a/d", "postgres://u:p@b/d"),
        (IPvAnyAddress, "192.0.2.1", "2001:db8::1"),
    ],
)
async def test_types_of_pydantic_are_values(
    cache: Cache, connect: Connect, kind: Any, one: str, two: str
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)

    async def index(value: Any) -> str:
        return str(value)

    index.__annotations__["value"] = kind
    app.get("/")(cache(ttl=60)(index))
    async with connect(app) as client:
        for value in (one, two, one):
            answer = await client.get("/", params={"value": value})
            assert answer.json() == str(TypeAdapter(kind).validate_python(value))
    assert "hit" in answer.headers["cache-status"]
