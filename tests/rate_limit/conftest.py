from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx2
import pytest
from starlette.types import ASGIApp

Open = Callable[[ASGIApp], Awaitable[httpx2.AsyncClient]]


@pytest.fixture
async def client_of() -> AsyncIterator[Open]:
    """A client of an app, by the address 127.0.0.1."""
    async with AsyncExitStack() as stack:

        async def opened(app: ASGIApp, *, address: str = "127.0.0.1") -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app, client=(address, 1234), raise_app_exceptions=False)
            client = httpx2.AsyncClient(transport=transport, base_url="http://test")
            return await stack.enter_async_context(client)

        yield opened
