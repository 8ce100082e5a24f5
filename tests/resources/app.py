"""An app that gives a notice of half a second."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI

from fastapi_prodkit import Health, Resources


async def resource() -> AsyncIterator[None]:
    print("resource opened", flush=True)
    yield
    print("resource closed", flush=True)


app = FastAPI(lifespan=Resources(resource, notice=0.5))
app.include_router(Health())
