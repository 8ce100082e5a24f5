"""A real uvicorn in the test's own loop, and real clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import ClientConnection, connect

from fastapi_prodkit import Hub


class Client:
    """A `websockets` client that waits five seconds at most."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def json(self) -> Any:
        async with asyncio.timeout(5):
            return json.loads(await self.connection.recv())

    async def send(self, data: Any) -> None:
        await self.connection.send(json.dumps(data))

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the server closes, whatever comes before."""
        async with asyncio.timeout(5):
            await self.connection.wait_closed()
        received = self.connection.protocol.close_rcvd
        return (received.code, received.reason) if received is not None else (1006, "")


class Server:
    def __init__(self, port: int, stack: AsyncExitStack, uvicorn: uvicorn.Server) -> None:
        self.port = port
        self._stack = stack
        self._uvicorn = uvicorn

    async def connect(self, path: str, **options: Any) -> Client:
        connection = await self._stack.enter_async_context(
            connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, **options)
        )
        return Client(connection)

    async def until_connections(self, count: int) -> None:
        """Wait until the server holds `count` connections and no more."""
        async with asyncio.timeout(5):
            while len(self._uvicorn.server_state.connections) != count:
                await asyncio.sleep(0.01)


def room_app(hub: Hub) -> FastAPI:
    """Everything said in a room is told to the room."""
    app = FastAPI()

    @app.websocket("/rooms/{room}")
    async def talk(websocket: WebSocket, room: str) -> None:
        async with hub.join(websocket, room) as member:
            async for message in member:
                await hub.broadcast(room, message)

    return app


@asynccontextmanager
async def serving(hub: Hub, app: FastAPI | None = None, **options: Any) -> AsyncIterator[Server]:
    """`app` behind a real uvicorn on a port of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app or room_app(hub), log_config=None, lifespan="off", timeout_graceful_shutdown=10, **options
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            async with AsyncExitStack() as stack:
                yield Server(listener.getsockname()[1], stack, server)
        finally:
            server.should_exit = True
            await task
