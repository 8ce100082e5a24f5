"""A cached list of 100 models: the hit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend, RedisBackend, Resources, TieredBackend
from fastapi_prodkit.typing import Backend

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from ..work import BODY, Item, catalogue, computed


async def check(build: Build, rig: Rig) -> None:
    """The second answer equals the uncached one and was not computed again."""
    async with opened(build(rig)) as client:
        first = await client.ask()
        before = computed()
        for _ in range(3):
            again = await client.ask()
            assert again.status == 200, f"answers {again.status}"
            assert again.header("content-type") == "application/json", "another content type"
            assert again.json() == first.json() == _expected(), "another body"
        assert computed() == before, "a hit computed the value again"


async def check_miss(build: Build, rig: Rig) -> None:
    """Every answer equals the uncached one and was computed for it."""
    async with opened(build(rig)) as client:
        for _ in range(3):
            before = computed()
            answer = await client.ask()
            assert answer.status == 200, f"answers {answer.status}"
            assert answer.json() == _expected(), "another body"
            assert computed() == before + 1, "the value was not computed"


def _expected() -> Any:
    return json.loads(BODY)


def bare(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def items() -> list[Item]:
        return catalogue()

    return app


def prebuilt(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def items() -> Response:
        return Response(BODY, media_type="application/json")

    return app


async def _nobody() -> None:
    return None


def prebuilt_with_a_dependency(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(_nobody)])
    async def items() -> Response:
        return Response(BODY, media_type="application/json")

    return app


def prebuilt_alike(rig: Rig) -> FastAPI:
    """What a hit sends, by hand."""
    app = FastAPI()
    headers = {
        "etag": '"0123456789abcdef0123456789abcdef"',
        "cache-control": "no-cache",
        "age": "0",
        "cache-status": "prodkit; hit; ttl=3600",
    }

    @app.get("/", dependencies=[Depends(_nobody)])
    async def items() -> Response:
        return Response(BODY, media_type="application/json", headers=headers)

    return app


def ours(rig: Rig) -> FastAPI:
    return _ours(MemoryBackend())


def ours_with_a_dependency(rig: Rig) -> FastAPI:
    return _ours(MemoryBackend(), dependencies=[Depends(_nobody)])


def ours_redis(rig: Rig) -> FastAPI:
    return _ours(RedisBackend(rig.redis_url, timeout=5))


def ours_redis_with_tags(rig: Rig) -> FastAPI:
    return _ours(RedisBackend(rig.redis_url, timeout=5), tags=["items", "shop"])


def ours_tiered(rig: Rig) -> FastAPI:
    return _ours(TieredBackend(RedisBackend(rig.redis_url, timeout=5)), tags=["items", "shop"])


def ours_missed(rig: Rig) -> FastAPI:
    return _ours(MemoryBackend(), ttl=1e-6)


def _ours(
    backend: Backend, *, ttl: float = 3600, dependencies: Sequence[Any] = (), tags: Sequence[str] = ()
) -> FastAPI:
    cache = Cache(backend.store)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(CacheMiddleware)

    @app.get("/", dependencies=dependencies)
    @cache(ttl=ttl, tags=tags)
    async def items() -> list[Item]:
        return catalogue()

    return app


def cachex(rig: Rig) -> FastAPI:
    from fastapi_cachex import BackendProxy, cache
    from fastapi_cachex.backends import MemoryBackend

    BackendProxy.set(MemoryBackend())
    app = FastAPI()

    @app.get("/")
    @cache(ttl=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def cachex_redis(rig: Rig) -> FastAPI:
    from fastapi_cachex import BackendProxy, cache
    from fastapi_cachex.backends import AsyncRedisCacheBackend

    BackendProxy.set(AsyncRedisCacheBackend(port=urlsplit(rig.redis_url).port or 6379))
    app = FastAPI()

    @app.get("/")
    @cache(ttl=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def cache2(rig: Rig) -> FastAPI:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.decorator import cache

    FastAPICache.reset()
    FastAPICache.init(InMemoryBackend())
    app = FastAPI()

    @app.get("/")
    @cache(expire=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def cache2_pickle(rig: Rig) -> FastAPI:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.coder import PickleCoder
    from fastapi_cache.decorator import cache

    FastAPICache.reset()
    FastAPICache.init(InMemoryBackend())
    app = FastAPI()

    @app.get("/")
    @cache(expire=3600, coder=PickleCoder, namespace="pickled")
    async def items() -> list[Item]:
        return catalogue()

    return app


def cache2_redis(rig: Rig) -> FastAPI:
    import redis.asyncio
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache

    FastAPICache.reset()
    FastAPICache.init(RedisBackend(redis.asyncio.from_url(rig.redis_url)))
    app = FastAPI()

    @app.get("/")
    @cache(expire=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def cashews(rig: Rig) -> FastAPI:
    return _cashews("mem://")


def cashews_redis(rig: Rig) -> FastAPI:
    return _cashews(rig.redis_url)


def _cashews(url: str) -> FastAPI:
    from cashews import Cache

    cache = Cache()
    cache.setup(url)
    app = FastAPI()

    @app.get("/")
    @cache(ttl="1h", key="items")
    async def items() -> list[Item]:
        return catalogue()

    return app


def aiocache(rig: Rig) -> FastAPI:
    from aiocache import cached

    app = FastAPI()

    @app.get("/")
    @cached(ttl=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def aiocache_redis(rig: Rig) -> FastAPI:
    from aiocache import RedisCache, cached
    from aiocache.serializers import PickleSerializer

    app = FastAPI()
    port = urlsplit(rig.redis_url).port

    @app.get("/")
    @cached(ttl=3600, cache=RedisCache, serializer=PickleSerializer(), port=port)
    async def items() -> list[Item]:
        return catalogue()

    return app


def alcazaba(rig: Rig) -> FastAPI:
    from fastapi_alcazaba import Cache
    from fastapi_alcazaba.backends.inmemory import InMemoryBackend

    return _alcazaba(Cache(InMemoryBackend()))


def alcazaba_redis(rig: Rig) -> FastAPI:
    import redis.asyncio
    from fastapi_alcazaba import Cache
    from fastapi_alcazaba.backends.redis import RedisBackend

    return _alcazaba(Cache(RedisBackend(redis.asyncio.from_url(rig.redis_url))))


def _alcazaba(cache: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    @cache.cached(expire=3600)
    async def items() -> list[Item]:
        return catalogue()

    return app


def redis_sdk(rig: Rig) -> FastAPI:
    import os

    os.environ["REDIS_URL"] = rig.redis_url
    from redis_fastapi import FastAPIRedis, cache, get_settings

    get_settings.cache_clear()
    app = FastAPI()
    FastAPIRedis(app).lifespan().caching()

    @app.get("/", dependencies=[Depends(cache(ttl=3600))])
    async def items() -> list[Item]:
        return catalogue()

    return app


def bare_get(rig: Rig) -> FastAPI:
    import redis.asyncio

    client = redis.asyncio.from_url(rig.redis_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def items(request: Request) -> Response:
        body = await client.get("bench:items")
        if body is None:
            catalogue()
            body = BODY
            await client.set("bench:items", body, ex=3600)
        return Response(body, media_type="application/json")

    return app


_HITS = [
    Contender(BARE, bare, note="computes and serialises each time", yardstick=True),
    Contender(LIMIT, prebuilt, yardstick=True),
    Contender("prebuilt Response, with a dependency", prebuilt_with_a_dependency, yardstick=True),
    Contender("the same with a hit's header fields", prebuilt_alike, yardstick=True),
    Contender("fastapi-prodkit", ours, "fastapi-prodkit", "answered before the router"),
    Contender("fastapi-prodkit, with a dependency", ours_with_a_dependency, "fastapi-prodkit"),
]

_MEMORY = [
    *_HITS,
    Contender("fastapi-cachex", cachex, "fastapi-cachex"),
    Contender("aiocache", aiocache, "aiocache", "keeps the objects, FastAPI serialises them each time"),
    Contender("cashews", cashews, "cashews", "keeps the objects, FastAPI serialises them each time"),
    Contender("fastapi-alcazaba", alcazaba, "fastapi-alcazaba"),
    Contender("fastapi-cache2", cache2, "fastapi-cache2"),
    Contender("fastapi-cache2, PickleCoder", cache2_pickle, "fastapi-cache2"),
]

_MISSES = [
    Contender(BARE, bare, note="stores nothing", yardstick=True),
    Contender(LIMIT, prebuilt, yardstick=True),
    Contender("fastapi-prodkit", ours_missed, "fastapi-prodkit"),
]

_REDIS = [
    Contender(BARE, bare, note="computes and serialises each time, no Redis", yardstick=True),
    Contender(LIMIT, prebuilt, note="no Redis", yardstick=True),
    Contender("redis-py GET in the endpoint", bare_get, "redis", "by hand: one key, the whole body"),
    Contender("fastapi-prodkit", ours_redis, "fastapi-prodkit"),
    Contender("fastapi-prodkit, two tags", ours_redis_with_tags, "fastapi-prodkit"),
    Contender(
        "fastapi-prodkit, two tags, TieredBackend", ours_tiered, "fastapi-prodkit", "no command for a hit"
    ),
    Contender("fastapi-cachex", cachex_redis, "fastapi-cachex"),
    Contender("aiocache", aiocache_redis, "aiocache", "pickle"),
    Contender("cashews", cashews_redis, "cashews", "pickle"),
    Contender("fastapi-redis-sdk", redis_sdk, "fastapi-redis-sdk"),
    Contender("fastapi-alcazaba", alcazaba_redis, "fastapi-alcazaba"),
    Contender("fastapi-cache2", cache2_redis, "fastapi-cache2"),
]

_TEXT = f"A hit on a list of 100 models ({len(BODY) / 1000:.1f} kB), a route without dependencies."
_TEXT_OF_MISS = "Every request computes the list, and has its response stored."
_SERVED = "Real processes over HTTP, eight connections that stay open."

SUITES = [
    Suite(
        name="cache",
        title="Response cache, memory",
        text=_TEXT,
        contenders=_MEMORY,
        check=check,
    ),
    Suite(
        name="cache-miss",
        title="Response cache, memory, a miss",
        text=_TEXT_OF_MISS,
        contenders=_MISSES,
        check=check_miss,
    ),
    Suite(
        name="cache-served",
        title="Response cache, memory, under uvicorn",
        text=f"{_TEXT} {_SERVED}",
        contenders=_HITS,
        check=check,
        served=True,
        at_once=8,
    ),
    Suite(
        name="cache-miss-served",
        title="Response cache, memory, a miss, under uvicorn",
        text=f"{_TEXT_OF_MISS} {_SERVED}",
        contenders=_MISSES,
        check=check_miss,
        served=True,
        at_once=8,
    ),
    Suite(
        name="cache-redis",
        title="Response cache, Redis",
        text=_TEXT + " One request after another: the round trip counts in full.",
        contenders=_REDIS,
        check=check,
        waits=True,
    ),
    Suite(
        name="cache-redis-32",
        title="Response cache, Redis, 32 requests at once",
        text=_TEXT + " 32 requests at any time, as a busy worker has.",
        contenders=_REDIS,
        check=check,
        waits=True,
        at_once=32,
    ),
]
