"""Streams that say what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.responses import Response

from fastapi_prodkit import CSVResponse, EventStreamResponse, NDJSONResponse, ProblemMiddleware, Resources


async def _idle() -> AsyncIterator[int]:
    try:
        yield 1
        await asyncio.Event().wait()
    finally:
        print("stream closed", flush=True)


async def _broken() -> AsyncIterator[dict[str, int]]:
    for number in range(3):
        yield {"number": number}
        await asyncio.sleep(0)
    raise ValueError("a bug")


def create_app(*, problems: bool = False) -> FastAPI:
    app = FastAPI(lifespan=Resources())
    if problems:
        app.add_middleware(ProblemMiddleware)

    @app.get("/idle")
    async def idle() -> Response:
        return EventStreamResponse(_idle())

    @app.get("/broken.csv")
    async def broken_csv() -> Response:
        return CSVResponse(_broken())

    @app.get("/broken.ndjson")
    async def broken_ndjson() -> Response:
        return NDJSONResponse(_broken())

    return app


app = create_app()
app_with_problems = create_app(problems=True)
