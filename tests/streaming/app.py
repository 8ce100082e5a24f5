"""Streams that say what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from fastapi_prodkit import (
    CacheMiddleware,
    CSVResponse,
    EventStreamResponse,
    NDJSONResponse,
    ProblemMiddleware,
    RequestLoggingMiddleware,
    Resources,
)


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


def create_app(*middlewares: Any) -> FastAPI:
    app = FastAPI(lifespan=Resources())
    for middleware in middlewares:
        app.add_middleware(middleware)

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


class UsersOwn(BaseHTTPMiddleware):
    """Completes a body that broke off, unless `ProblemMiddleware` stands in front of it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


app = create_app()
app_with_middlewares = create_app(UsersOwn, RequestLoggingMiddleware, ProblemMiddleware, CacheMiddleware)
