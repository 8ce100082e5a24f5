"""What a listener has not read yet."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Inbox"]


class Inbox:
    """A bounded queue for one reader. Full, it drops the oldest and leaves a `None` in their place.

    Unlike `asyncio.Queue` it never makes the writer wait: one slow listener holds up nobody.
    """

    def __init__(self, max_pending: int) -> None:
        self._messages: deque[bytes] = deque(maxlen=max_pending)
        self._lost = False
        self._ready = asyncio.Event()

    def put(self, message: bytes) -> None:
        self._lost = self._lost or len(self._messages) == self._messages.maxlen
        self._messages.append(message)
        self._ready.set()

    def lose(self) -> None:
        """Tell the reader that messages may be missing here; what is still unread is dropped."""
        self._messages.clear()
        self._lost = True
        self._ready.set()

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> bytes | None:
        await self._ready.wait()
        if self._lost:
            self._lost = False
            message = None
        else:
            message = self._messages.popleft()
        if not self._messages and not self._lost:
            self._ready.clear()
        return message
