"""A limited route, as its clients see it."""

from __future__ import annotations

import asyncio

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Backend

from .conftest import Open


class Item(BaseModel):
    name: str


def _app(backend: Backend, limit: str) -> FastAPI:
    limiter = RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)

    @app.get("/items/{item_id}", dependencies=[Depends(limiter(limit))])
    async def read(item_id: int) -> int:
        return item_id

    @app.post("/items", dependencies=[Depends(limiter(limit))])
    async def write(item: Item) -> Item:
        return item

    return app


async def test_of_a_thousand_at_once_exactly_the_quota_is_admitted(backend: Backend, client_of: Open) -> None:
    client = await client_of(_app(backend, "50/hour"))
    answers = await asyncio.gather(*(client.get(f"/items/{number}") for number in range(1000)))
    admitted = [each for each in answers if each.status_code == 200]
    assert len(admitted) == 50
    assert {each.status_code for each in answers} == {200, 429}
    left = {int(each.headers["ratelimit"].split("r=")[1].split(";")[0]) for each in admitted}
    assert left == set(range(50))


async def test_a_client_learns_its_limits_and_when_to_come_back(client_of: Open) -> None:
    clock = Clock()
    client = await client_of(_app(MemoryBackend(clock=clock), "2/second;3/minute"))
    answer = await client.get("/items/1")
    assert answer.headers["ratelimit-policy"] == '"per-second";q=2;w=1, "per-minute";q=3;w=60'
    assert answer.headers["ratelimit"] == '"per-second";r=1;t=1, "per-minute";r=2;t=20'
    await client.get("/items/1")
    refused = await client.get("/items/1")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"per-second";r=0;t=1, "per-minute";r=1;t=40'
    clock.advance(1)
    assert (await client.get("/items/1")).status_code == 200


async def test_malformed_bodies_count_and_are_refused_unread(client_of: Open) -> None:
    client = await client_of(_app(MemoryBackend(), "2/minute"))
    statuses = [
        (await client.post("/items", content=b"{", headers={"content-type": "application/json"})).status_code
        for _ in range(4)
    ]
    assert statuses == [422, 422, 429, 429]
