from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import httpx2
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware


class Open(Protocol):
    def __call__(self, app: ASGIApp, *, address: str = "127.0.0.1") -> Awaitable[httpx2.AsyncClient]: ...


@pytest.fixture
def limiter() -> RateLimiter:
    return RateLimiter(MemoryBackend().counters)


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    return app


@pytest.fixture
async def client_of() -> AsyncIterator[Open]:
    """A client of an app that was started, by the address 127.0.0.1."""
    async with AsyncExitStack() as stack:
        running: list[ASGIApp] = []

        async def opened(app: ASGIApp, *, address: str = "127.0.0.1") -> httpx2.AsyncClient:
            if app not in running:
                running.append(app)
                await stack.enter_async_context(started(app))
            transport = httpx2.ASGITransport(app, client=(address, 1234), raise_app_exceptions=False)
            client = httpx2.AsyncClient(transport=transport, base_url="http://test")
            return await stack.enter_async_context(client)

        yield opened


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[None]:
    """The app between start-up and shutdown; raises what start-up raises."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope: dict[str, object] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running = asyncio.create_task(_run(app, scope, to_app, from_app))
    await to_app.put({"type": "lifespan.startup"})
    if (await from_app.get())["type"] != "lifespan.startup.complete":
        await running
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await running


async def _run(
    app: ASGIApp, scope: dict[str, object], to_app: asyncio.Queue[Message], from_app: asyncio.Queue[Message]
) -> None:
    await app(scope, to_app.get, from_app.put)
