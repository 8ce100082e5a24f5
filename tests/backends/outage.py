"""Calls that go on through an outage, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi_prodkit import UnavailableError

__all__ = ["Calls", "calling", "until_served"]


class Calls:
    """:ivar surprises: whatever was raised that is not `UnavailableError`."""

    def __init__(self) -> None:
        self.served = 0
        self.refused = 0
        self.surprises: list[BaseException] = []

    async def make(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except UnavailableError:
            self.refused += 1
        except Exception as error:
            self.surprises.append(error)
        else:
            self.served += 1


@asynccontextmanager
async def calling(call: Callable[[], Awaitable[object]]) -> AsyncIterator[Calls]:
    """Call all the time, a few at once, while the block runs."""
    calls = Calls()

    async def go_on() -> None:
        while True:
            await calls.make(call)
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(go_on()) for _ in range(3)]
    try:
        yield calls
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_served(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds until `call` is served again."""
    started = time.monotonic()
    async with asyncio.timeout(20):
        while True:
            try:
                await call()
            except UnavailableError:
                await asyncio.sleep(0.02)
            else:
                return time.monotonic() - started
