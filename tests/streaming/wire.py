"""A server's two ends, in memory: what a response sends, and a client that may leave or stop reading."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Message

from fastapi_prodkit._shutdown import STATE_KEY, Shutdown


class Wire:
    """:param shutdown: what `Resources` would have put into the scope."""

    def __init__(self, shutdown: Shutdown | None = None) -> None:
        self.messages: list[Message] = []
        self.sent = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.left = asyncio.Event()
        self._state: dict[str, Any] = {STATE_KEY: shutdown} if shutdown is not None else {}

    @property
    def bodies(self) -> list[bytes]:
        return [
            each["body"] for each in self.messages if each["type"] == "http.response.body" and each["body"]
        ]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def is_complete(self) -> bool:
        return bool(self.messages) and self.messages[-1].get("more_body") is False

    async def serve(self, response: Response, *, method: str = "GET") -> None:
        scope = {"type": "http", "method": method, "path": "/", "headers": [], "state": self._state}
        await response(scope, self._receive, self._send)

    async def until(self, text: bytes) -> None:
        """Wait until `text` has been sent."""
        async with asyncio.timeout(5):
            while text not in self.body:
                self.sent.clear()
                await self.sent.wait()

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reading.wait()
        self.messages.append(message)
        self.sent.set()
