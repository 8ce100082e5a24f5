"""An app that gives a notice of half a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI

from fastapi_prodkit import Health, Resources


async def resource() -> AsyncIterator[None]:
    print("resource opened", flush=True)
    yield
    print("resource closed", flush=True)


app = FastAPI(lifespan=Resources(resource, notice=0.5))
app.include_router(Health())


async def slow() -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


app_that_cannot_start = FastAPI(lifespan=Resources(resource, slow, start_timeout=0.1))
