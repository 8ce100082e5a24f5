"""One limit per client address on a small endpoint, in memory and on Redis."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware, RedisBackend, Resources
from fastapi_prodkit.typing import Backend

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from ..work import small


async def check(build: Build, rig: Rig) -> None:
    """Three a minute: three pass and the fourth is refused; another client has its own budget."""
    async with opened(build(replace(rig, limit=3, window=60))) as client:
        statuses = [(await client.ask()).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429], f"of three a minute lets through: {statuses}"
        other = await client.ask(client=("198.51.100.7", 1))
        assert other.status == 200, "two clients share one budget"


def bare(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> dict[str, str]:
        return small()

    return app


def prebuilt(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> Response:
        return Response(b'{"status":"fine"}', media_type="application/json")

    return app


def _limited(dependency: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(dependency)])
    async def endpoint() -> dict[str, str]:
        return small()

    return app


def no_op(rig: Rig) -> FastAPI:
    async def dependency(request: Request, response: Response) -> None:
        return None

    return _limited(dependency)


def ours(rig: Rig) -> FastAPI:
    return _ours(rig, MemoryBackend())


def ours_three(rig: Rig) -> FastAPI:
    return _ours(rig, MemoryBackend(), more=True)


def ours_redis(rig: Rig) -> FastAPI:
    return _ours(rig, RedisBackend(rig.redis_url, timeout=5))


def ours_redis_three(rig: Rig) -> FastAPI:
    return _ours(rig, RedisBackend(rig.redis_url, timeout=5), more=True)


def _ours(rig: Rig, backend: Backend, *, more: bool = False) -> FastAPI:
    limiter = RateLimiter(backend.counters)
    unit = {1: "second", 60: "minute"}[rig.window]
    limits = f"{rig.limit}/{unit}" + (";100000000/hour;1000000000/day" if more else "")
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(RateLimitMiddleware)

    @app.get("/", dependencies=[Depends(limiter(limits))])
    async def endpoint() -> dict[str, str]:
        return small()

    return app


def bare_limits(rig: Rig) -> FastAPI:
    from limits.aio.storage import MemoryStorage

    return _bare_limits(rig, MemoryStorage())


def bare_limits_redis(rig: Rig) -> FastAPI:
    from limits.aio.storage import RedisStorage

    return _bare_limits(rig, RedisStorage(f"async+{rig.redis_url}", implementation="redispy"))


def _bare_limits(rig: Rig, storage: Any) -> FastAPI:
    from limits import RateLimitItemPerSecond
    from limits.aio.strategies import SlidingWindowCounterRateLimiter

    strategy = SlidingWindowCounterRateLimiter(storage)
    item = RateLimitItemPerSecond(rig.limit, rig.window)

    async def dependency(request: Request) -> None:
        assert request.client is not None
        if not await strategy.hit(item, request.client.host):
            raise HTTPException(429)

    return _limited(dependency)


def slowapi(rig: Rig) -> FastAPI:
    return _slowapi(rig, headers=False)


def slowapi_headers(rig: Rig) -> FastAPI:
    return _slowapi(rig, headers=True)


def _slowapi(rig: Rig, *, headers: bool) -> FastAPI:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address

    limiter = Limiter(key_func=get_remote_address, headers_enabled=headers)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    @app.get("/")
    @limiter.limit(f"{rig.limit} per {rig.window} second")
    async def endpoint(request: Request, response: Response) -> dict[str, str]:
        return small()

    return app


def fastapi_limiter(rig: Rig) -> FastAPI:
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import AbstractBucket, BucketFactory, InMemoryBucket, Limiter, Rate, RateItem

    class PerClient(BucketFactory):
        """Its README's `Limiter(Rate(...))` has one bucket that all clients share."""

        def __init__(self) -> None:
            self._buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, time.monotonic_ns() // 1_000_000, weight=weight)

        def get(self, item: Any) -> AbstractBucket:
            if item.name not in self._buckets:
                rates = [Rate(rig.limit, rig.window * 1000)]
                self._buckets[item.name] = self.create(InMemoryBucket, rates)
            return self._buckets[item.name]

    return _limited(RateLimiter(Limiter(PerClient())))


def throttled(rig: Rig) -> FastAPI:
    from throttled.asyncio import MemoryStore

    return _throttled(rig, MemoryStore())


def throttled_redis(rig: Rig) -> FastAPI:
    from throttled.asyncio import RedisStore

    return _throttled(rig, RedisStore(server=rig.redis_url))


def _throttled(rig: Rig, store: Any) -> FastAPI:
    from throttled.asyncio.contrib.fastapi import (
        Limiter,
        RateLimitExceededError,
        get_remote_address,
        rate_limit_exceeded_handler,
    )

    unit = {1: "s", 60: "m"}[rig.window]
    limiter = Limiter(f"{rig.limit}/{unit}", store=store, key_func=get_remote_address)
    app = FastAPI()
    app.add_exception_handler(RateLimitExceededError, rate_limit_exceeded_handler)

    @app.get("/")
    @limiter.limit()
    async def endpoint(request: Request) -> dict[str, str]:
        return small()

    return app


def alcazaba(rig: Rig) -> FastAPI:
    from fastapi_alcazaba.backends.inmemory import InMemoryBackend

    return _alcazaba(rig, InMemoryBackend())


def alcazaba_redis(rig: Rig) -> FastAPI:
    import redis.asyncio
    from fastapi_alcazaba.backends.redis import RedisBackend

    return _alcazaba(rig, RedisBackend(redis.asyncio.from_url(rig.redis_url)))


def _alcazaba(rig: Rig, backend: Any) -> FastAPI:
    from fastapi_alcazaba import Cache, FastAPIRateLimiter

    return _limited(FastAPIRateLimiter(times=rig.limit, seconds=rig.window, cache=Cache(backend)))


def prodkit(rig: Rig) -> FastAPI:
    return _prodkit(rig, backend="memory")


def prodkit_redis(rig: Rig) -> FastAPI:
    return _prodkit(rig, backend="redis", redis_url=rig.redis_url)


def _prodkit(rig: Rig, **options: str) -> FastAPI:
    from prodkit import Production

    app = bare(rig)
    unit = {1: "second", 60: "minute"}[rig.window]
    rest = ("logging", "request_id", "errors", "health", "security", "cors", "compression", "metrics")
    Production(
        app,
        rate_limit={"default": f"{rig.limit}/{unit}", **options},
        **dict.fromkeys((*rest, "cache", "tracing"), False),
    )
    return app


def redis_sdk(rig: Rig) -> FastAPI:
    import os

    os.environ["REDIS_URL"] = rig.redis_url
    from redis_fastapi import FastAPIRedis, get_settings, rate_limit

    get_settings.cache_clear()
    app = FastAPI()
    FastAPIRedis(app).lifespan().rate_limiting()

    @app.get("/", dependencies=[Depends(rate_limit(limit=rig.limit, window=rig.window))])
    async def endpoint() -> dict[str, str]:
        return small()

    return app


_SCRIPT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return {count, redis.call('TTL', KEYS[1])}
"""


def by_hand_redis(rig: Rig) -> FastAPI:
    """What people write: a fixed window in one script, redis-py's pool, two headers."""
    from redis.asyncio import Redis

    client = Redis.from_url(rig.redis_url)
    script = client.register_script(_SCRIPT)

    async def dependency(request: Request, response: Response) -> None:
        assert request.client is not None
        count, left = await script(keys=[f"limit:{request.client.host}"], args=[rig.limit, rig.window])
        if count > rig.limit:
            raise HTTPException(429, headers={"Retry-After": str(left)})
        response.headers["X-RateLimit-Remaining"] = str(rig.limit - count)
        response.headers["X-RateLimit-Reset"] = str(left)

    return _limited(dependency)


def _used_up(build: Build) -> Build:
    """Timed while its only unit is gone; checked as ever."""
    return lambda rig: build(rig if rig.window == 60 else replace(rig, limit=1, window=60))


_MEMORY = [
    Contender(BARE, bare, yardstick=True),
    Contender(LIMIT, prebuilt, yardstick=True),
    Contender("a dependency that does nothing", no_op, yardstick=True),
    Contender("fastapi-prodkit", ours, "fastapi-prodkit", "GCRA, headers"),
    Contender("fastapi-prodkit, three limits", ours_three, "fastapi-prodkit", "GCRA, headers"),
    Contender("limits, by hand", bare_limits, "limits", "sliding window, no headers"),
    Contender("throttled-py", throttled, "throttled-py", "token bucket, no headers"),
    Contender("fastapi-limiter", fastapi_limiter, "fastapi-limiter", "a bucket a client, no headers"),
    Contender("slowapi", slowapi, "slowapi", "fixed window, no headers"),
    Contender("slowapi, with headers", slowapi_headers, "slowapi", "fixed window"),
    Contender("fastapi-alcazaba", alcazaba, "fastapi-alcazaba", "sliding window, headers"),
    Contender("prodkit", prodkit, "prodkit", "fixed window, no headers"),
]

_REDIS = [
    Contender(BARE, bare, note="no limit", yardstick=True),
    Contender(LIMIT, prebuilt, note="no limit", yardstick=True),
    Contender("fastapi-prodkit", ours_redis, "fastapi-prodkit", "GCRA, headers"),
    Contender("fastapi-prodkit, three limits", ours_redis_three, "fastapi-prodkit", "GCRA, headers"),
    Contender("one script, by hand", by_hand_redis, "redis", "fixed window, redis-py's pool, headers"),
    Contender("limits, by hand", bare_limits_redis, "limits", "sliding window, no headers"),
    Contender("throttled-py", throttled_redis, "throttled-py", "token bucket, no headers"),
    Contender("fastapi-redis-sdk", redis_sdk, "fastapi-redis-sdk", "headers"),
    Contender("fastapi-alcazaba", alcazaba_redis, "fastapi-alcazaba", "sliding window, headers"),
    Contender("prodkit", prodkit_redis, "prodkit", "fixed window, no headers"),
]

_SERVED = {BARE, LIMIT, "fastapi-prodkit", "fastapi-prodkit, three limits", "one script, by hand"}

_REFUSED = [
    Contender(BARE, bare, note="answers 200", yardstick=True),
    Contender(LIMIT, prebuilt, note="answers 200", yardstick=True),
    Contender("fastapi-prodkit", _used_up(ours), "fastapi-prodkit", "headers"),
    Contender("limits, by hand", _used_up(bare_limits), "limits", "no headers"),
    Contender("slowapi, with headers", _used_up(slowapi_headers), "slowapi"),
    Contender("fastapi-alcazaba", _used_up(alcazaba), "fastapi-alcazaba"),
]

_TEXT = "One limit per client address, never reached, on an endpoint that returns a small dictionary."

SUITES = [
    Suite(name="rate-limit", title="Rate limit, memory", text=_TEXT, contenders=_MEMORY, check=check),
    Suite(
        name="rate-limit-refused",
        title="Rate limit, memory, a client that is over its limit",
        text="Every request is answered with 429.",
        contenders=_REFUSED,
        check=check,
        status=429,
    ),
    Suite(
        name="rate-limit-redis",
        title="Rate limit, Redis",
        text=_TEXT + " One request after another: the round trip counts in full.",
        contenders=_REDIS,
        check=check,
        waits=True,
    ),
    Suite(
        name="rate-limit-redis-32",
        title="Rate limit, Redis, 32 requests at once",
        text=_TEXT + " 32 requests at any time, as a busy worker has.",
        contenders=_REDIS,
        check=check,
        waits=True,
        at_once=32,
    ),
    Suite(
        name="rate-limit-redis-served",
        title="Rate limit, Redis, under uvicorn",
        text=(
            _TEXT
            + " Real processes over HTTP, 32 connections that stay open: what uvicorn takes for a request "
            "and what the client takes for an answer are part of what is timed."
        ),
        contenders=[each for each in _REDIS if each.name in _SERVED],
        check=check,
        served=True,
        at_once=32,
    ),
]
