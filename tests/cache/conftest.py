from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache
from fastapi_prodkit.typing import Backend

Connect = Callable[[FastAPI], AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def cache(backend: Backend) -> Cache:
    """A cache on memory, and on a real server."""
    return Cache(backend.store)


@pytest.fixture
def connect() -> Connect:
    """A client of an app, without its lifespan."""

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

    return opened
