"""The app that real uvicorn processes serve."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from fastapi_prodkit import Claims, Hub, JWTAuth
from fastapi_prodkit.auth import bearer_header, subprotocol
from fastapi_prodkit.backends import backend_from_url

SECRET = "a-secret-of-the-tests-0123456789abcdefghij"

auth = JWTAuth(SECRET, algorithms=["HS256"], sources=[bearer_header, subprotocol])


def create_app() -> FastAPI:
    backend = backend_from_url(os.environ.get("REDIS_URL", "memory://"))
    hub = Hub(backend.bus, close_timeout=0.5)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend, hub:
            yield
        print("closed in order", flush=True)

    app = FastAPI(lifespan=lifespan)
    poured = 0

    @app.websocket("/rooms/{room}")
    async def talk(websocket: WebSocket, room: str, claims: Annotated[Claims, Depends(auth)]) -> None:
        async with hub.join(websocket, room, expires=claims.expires) as member:
            async for message in member:
                await hub.broadcast(room, [claims.subject, message])

    @app.websocket("/deaf")
    async def deaf(websocket: WebSocket) -> None:
        async with hub.join(websocket, "a"):
            await asyncio.Event().wait()

    @app.websocket("/pour")
    async def pour(websocket: WebSocket) -> None:
        nonlocal poured
        async with hub.join(websocket, "a") as member:
            while True:
                await member.send("x" * 100_000)
                poured += 1

    @app.get("/poured")
    async def count() -> int:
        return poured

    return app
