"""Messages to everyone who listens, through a Redis-protocol server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ...errors import UnavailableError
from .._inbox import Inbox
from .calls import forget
from .link import Link
from .url import Wire

__all__ = ["RedisBus"]

_POLL = 0.02  # seconds between two looks at whether the connection is back


class RedisBus:
    """A `Bus` over pub/sub: one listening connection per process, for all its channels.

    A connection that is lost, or silent for longer than `heartbeat` allows, is replaced and the channels are
    subscribed again. Every listener is told by a `None` that messages may be missing: once when the
    connection is lost, and once when it listens again, so that what it looks up then misses nothing.

    :param wire: carries what is published, and dials the listening connection.
    :param prefix: goes before every channel.
    :param max_pending: the most messages that one listener may be behind.
    :param timeout: seconds that the server may take to confirm.
    :param heartbeat: seconds of silence after which the server is asked for a sign of life.
    """

    def __init__(
        self, wire: Wire, *, prefix: str, max_pending: int, timeout: float, heartbeat: float = 1.0
    ) -> None:
        self._wire = wire
        self._prefix = prefix
        self._max_pending = max_pending
        self._timeout = max(timeout, 2.0)
        self._inboxes: dict[str, set[Inbox]] = {}
        self._interrupted: set[Inbox] = set()  # listeners that have not been told yet that the gap ended
        self._link = Link(
            partial(wire.dial, protocol=3),
            timeout=max(timeout, 1.0),
            purpose="listening",
            heartbeat=heartbeat,
            on_push=self._hear,
            on_up=self._listen_again,
            on_lost=self._lose,
        )

    async def open(self) -> None:
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    async def publish(self, channel: str, message: bytes) -> None:
        await self._wire.call("PUBLISH", self._prefix + channel, message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes | None]]:
        name = self._prefix + channel
        inbox = Inbox(self._max_pending)
        self._inboxes.setdefault(name, set()).add(inbox)
        try:
            await self._confirmed(name)
            yield inbox
        finally:
            self._leave(name, inbox)

    async def _confirmed(self, name: str) -> None:
        """Each listener subscribes: the server takes a second time for what it is, and answers in order."""
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        await self._link.tell("SUBSCRIBE", name)
                    except UnavailableError:
                        await asyncio.sleep(_POLL)
                    else:
                        return
        except TimeoutError:
            raise UnavailableError("the Redis server did not confirm a subscription") from None

    def _leave(self, name: str, inbox: Inbox) -> None:
        self._interrupted.discard(inbox)
        listeners = self._inboxes[name]
        listeners.discard(inbox)
        if not listeners:
            del self._inboxes[name]
            if self._link.is_up:
                forget(self._link.tell("UNSUBSCRIBE", name))

    def _hear(self, message: Any) -> None:
        if message[0] == b"message":
            for inbox in self._inboxes.get(message[1].decode(), ()):
                inbox.put(message[2])

    def _lose(self) -> None:
        for listeners in self._inboxes.values():
            self._interrupted |= listeners
        for inbox in self._interrupted:
            inbox.lose()

    def _listen_again(self) -> None:
        if self._inboxes:
            self._link.tell("SUBSCRIBE", *self._inboxes).add_done_callback(self._heard_again)

    def _heard_again(self, told: asyncio.Future[Any]) -> None:
        if not told.cancelled() and told.exception() is None:
            for inbox in self._interrupted:
                inbox.lose()
            self._interrupted.clear()
