"""A request leaves nothing to the garbage collector: what does is collected later, while others wait."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.types import Message

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
)
from tests.stack import TIDY_VALIDATION

_REQUESTS = 20


def _nobody() -> None:
    return None


def _app() -> FastAPI:
    backend = MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lambda line, level: None)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(CacheMiddleware)
    inner = FastAPI()
    inner.add_middleware(CacheMiddleware)
    app.mount("/inner", inner)
    router = APIRouter(dependencies=[Depends(limiter("1000/minute"))])

    @router.get("/plain/{number}")
    async def plain(number: int) -> int:
        return number

    @router.get("/limited", dependencies=[Depends(limiter("1/day"))])
    async def limited() -> str:
        return "ok"

    @app.get("/cached")
    @cache(ttl=60)
    async def cached() -> str:
        return "ok"

    @inner.get("/cached/{number}", dependencies=[Depends(_nobody)])
    @cache(ttl=60)
    async def inner_cached(number: int) -> int:
        return number

    app.include_router(router)
    return app


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize(
    "path",
    [
        "/plain/1",
        pytest.param("/plain/x", marks=TIDY_VALIDATION),
        "/nothing",
        "/limited",
        "/cached",
        "/inner/cached/1",
        "/inner/nothing",
    ],
)
async def test_a_request_leaves_nothing_to_the_garbage_collector(path: str, spec_version: str) -> None:
    app = _app()
    await _ask(app, path, spec_version, 3)
    gc.collect()
    gc.disable()
    try:
        await _ask(app, path, spec_version, _REQUESTS)
        assert gc.collect() < _REQUESTS
    finally:
        gc.enable()


async def _ask(app: FastAPI, path: str, spec_version: str, times: int) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never comes

    async def send(message: Message) -> None:
        return None

    for _ in range(times):
        await app({**scope, "headers": [*scope["headers"]]}, receive, send)
