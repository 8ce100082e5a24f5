"""The app that the real servers serve."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response, StreamingResponse

from fastapi_prodkit import ProblemError, ProblemMiddleware

CANARY = "canary"  # in no record and no body

logging.basicConfig(level=logging.ERROR, format="LOGGED %(name)s %(message)s")


def create_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(ProblemMiddleware)

    async def forward(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=forward)

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError(CANARY)

    async def broken() -> AsyncIterator[bytes]:
        yield b"a,b\n" * 1000
        raise ValueError(CANARY)

    @app.get("/csv")
    async def csv() -> StreamingResponse:
        return StreamingResponse(broken(), media_type="text/csv")

    @app.get("/lines")
    async def lines() -> StreamingResponse:
        return StreamingResponse(broken(), media_type="application/x-ndjson")

    def fail() -> None:
        raise ValueError(CANARY)

    @app.get("/task")
    async def task(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "done"

    @app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        raise ProblemError(401, "no token", headers={"WWW-Authenticate": "Bearer"})

    @app.websocket("/closed-early")
    async def closed_early(websocket: WebSocket) -> None:
        await websocket.close(1008, "no token")

    @app.websocket("/{kind}")
    async def accepted(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        await websocket.receive_text()
        if kind == "mapped":
            raise HTTPException(403, "é" * 100)
        raise ValueError(CANARY)

    return app


app = create_app()
