"""Messages to everyone who listens, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..._arguments import count
from .._inbox import Inbox

__all__ = ["MemoryBus"]


class MemoryBus:
    """A `Bus` within one process.

    :param max_pending: the most messages that one listener may be behind; then the oldest are dropped
        and the listener is told by a `None`.
    """

    def __init__(self, *, max_pending: int = 1024) -> None:
        self._max_pending = count("max_pending", max_pending)
        self._inboxes: dict[str, set[Inbox]] = {}

    async def publish(self, channel: str, message: bytes) -> None:
        for inbox in self._inboxes.get(channel, ()):
            inbox.put(message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes | None]]:
        inbox = Inbox(self._max_pending)
        self._inboxes.setdefault(channel, set()).add(inbox)
        try:
            yield inbox
        finally:
            listeners = self._inboxes[channel]
            listeners.discard(inbox)
            if not listeners:
                del self._inboxes[channel]
