"""Whether a hit costs the same when a great deal is held."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Depends, FastAPI

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend, RateLimiter, RateLimitMiddleware, Resources

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from ..work import small
from .rate_limit import bare, prebuilt


def _client(number: int) -> dict[str, Any]:
    return {"client": (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 50000)}


def _query(number: int) -> dict[str, Any]:
    return {"query_string": b"number=%d" % number}


def limited(rig: Rig) -> FastAPI:
    backend = MemoryBackend()
    limiter = RateLimiter(backend.counters)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(RateLimitMiddleware)

    @app.get("/", dependencies=[Depends(limiter(f"{rig.limit}/day"))])
    async def endpoint() -> dict[str, str]:
        return small()

    return app


async def _nobody() -> None:
    return None


def cached(rig: Rig, *, is_guarded: bool = False) -> FastAPI:
    backend = MemoryBackend(max_bytes=256 * 1024 * 1024)
    cache = Cache(backend.store)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(CacheMiddleware, max_urls=131_072)

    @app.get("/", dependencies=[Depends(_nobody)] if is_guarded else [])
    @cache(ttl=3600)
    async def endpoint(number: int = 0) -> dict[str, int]:
        return {"number": number}

    return app


async def check_limited(build: Build, rig: Rig) -> None:
    async with opened(build(rig)) as client:
        assert (await client.ask()).header("ratelimit"), "no limit"


async def check_cached(build: Build, rig: Rig) -> None:
    async with opened(build(rig)) as client:
        answers = [await client.ask(**_query(number)) for number in (1, 2, 1)]
        assert [each.json()["number"] for each in answers] == [1, 2, 1], "another's answer"
        assert "; hit" in (answers[2].header("cache-status") or ""), "no hit"


SUITES = [
    Suite(
        name="rate-limit-clients",
        title="Rate limit, memory, by how many clients are known",
        text="Each request is of another client, in no order. All were seen before.",
        contenders=[
            Contender(BARE, bare, yardstick=True),
            Contender(LIMIT, prebuilt, yardstick=True),
            *(
                Contender(f"fastapi-prodkit, {count:,} clients", limited, among=count)
                for count in (10, 1_000, 100_000, 1_000_000)
            ),
        ],
        check=check_limited,
        vary=_client,
    ),
    Suite(
        name="cache-keys",
        title="Response cache, memory, by how many entries are held",
        text="Each hit is of another entry, in no order.",
        contenders=[
            Contender(BARE, bare, yardstick=True),
            Contender(LIMIT, prebuilt, yardstick=True),
            *(
                Contender(f"fastapi-prodkit, {count:,} entries{remark}", build, among=count)
                for remark, build in (("", cached), (", with a dependency", partial(cached, is_guarded=True)))
                for count in (10, 1_000, 100_000)
            ),
        ],
        check=check_cached,
        vary=_query,
    ),
]
