"""The app that the real servers serve in these tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import RequestLoggingMiddleware

handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
logging.getLogger("shop").addHandler(handler)


class Raising:
    """A user's middleware with a bug."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/middleware":
            raise ValueError("raised in a middleware")
        await self.app(scope, receive, send)


app = FastAPI()
app.add_middleware(RequestLoggingMiddleware)
app.add_middleware(Raising)


@app.get("/ok")
async def ok() -> str:
    logging.getLogger("shop").warning("logged by the endpoint")
    return "ok"


@app.get("/error")
async def error() -> None:
    raise ValueError("raised in the endpoint")


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    async def task() -> None:
        await asyncio.sleep(0.3)
        raise ValueError("raised in a background task")

    tasks.add_task(task)
    return "ok"


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.5)
    return "ok"


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.05)
            yield b"x" * 100

    return StreamingResponse(chunks())


@app.get("/broken-stream")
async def broken_stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("raised in a stream")

    return StreamingResponse(chunks())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


@app.get("/hanging")
async def hanging() -> None:
    await asyncio.Event().wait()


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()
