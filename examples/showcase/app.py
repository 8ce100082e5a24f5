"""Everything together: one small shop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    Health,
    Hub,
    JWTAuth,
    ProblemMiddleware,
    Problems,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
    Resources,
    Tasks,
    backend_from_url,
    problem_pages,
)

from . import accounts, catalogue, exports, orders
from .shop import Shop

SECRET = "a demo's secret, at least 32 bytes long: change it"


def create_app(url: str | None = None) -> FastAPI:
    backend = backend_from_url(url or os.environ.get("REDIS_URL", "memory://"))
    cache = Cache(backend.store)
    limiter = RateLimiter(backend.counters)
    auth = JWTAuth(SECRET, algorithms=["HS256"])
    hub = Hub(backend.bus)
    tasks = Tasks()
    problems = Problems()
    resources = Resources(backend, cache, tasks, hub)

    @resources.provide
    async def shop() -> AsyncIterator[Shop]:
        yield Shop()  # a real one would open its database here, and close it after the yield

    app = FastAPI(title="The shop", lifespan=resources)
    app.add_middleware(RequestLoggingMiddleware)
    app.add_middleware(ProblemMiddleware, problems=problems)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(CacheMiddleware)

    app.include_router(Health())
    app.include_router(problem_pages(problems))
    app.include_router(accounts.router(auth, limiter))
    app.include_router(catalogue.router(shop, cache, limiter, auth))
    app.include_router(orders.router(shop, auth, hub, tasks, cache))
    app.include_router(exports.router(shop))
    return app
