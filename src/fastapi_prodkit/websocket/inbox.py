"""What came in on one socket and was not read yet."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Inbox"]


class Inbox:
    """A short queue that makes the client wait while the endpoint is busy.

    An endpoint that only sends never reads, or no more. Once that has gone on for `patience` seconds with the
    queue full, what comes is dropped: the end of the connection has to be noticed behind it.
    """

    def __init__(self, *, max_pending: int = 16, patience: float) -> None:
        self._max_pending = max_pending
        self._patience = patience
        self._messages: deque[str] = deque()
        self._changed = asyncio.Event()
        self._read = False
        self._ended = False

    async def put(self, message: str) -> None:
        """Queue `message`, once there is space."""
        try:
            while len(self._messages) >= self._max_pending and not self._ended:
                async with asyncio.timeout(None if self._read else self._patience):
                    await self._wait()
        except TimeoutError:
            self._patience = 0
        else:
            if not self._ended:
                self._messages.append(message)
                self._changed.set()

    async def get(self) -> str | None:
        """The next message; `None` at the end."""
        self._read = True
        while not self._messages:
            if self._ended:
                return None
            await self._wait()
        self._changed.set()
        return self._messages.popleft()

    def rest(self) -> None:
        """Whoever read waits for the end now, unless more is read."""
        self._read = False
        self._changed.set()

    def end(self, *, discard: bool) -> None:
        """Nothing more comes; `discard` what is still unread."""
        self._ended = True
        if discard:
            self._messages.clear()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
