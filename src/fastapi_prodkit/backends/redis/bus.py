"""Messages to everyone who listens, through a Redis-protocol server."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from ...errors import ConfigurationError, UnavailableError
from .._inbox import Inbox
from .url import Wire

__all__ = ["RedisBus"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")


class RedisBus:
    """A `Bus` over pub/sub: one listening connection per process, for all its channels.

    A connection that is lost, or silent for longer than `heartbeat` allows, is replaced; the channels are
    subscribed again and every listener is told by a `None` that messages may be missing.

    :param wire: carries what is published.
    :param connect: makes a fresh, unconnected connection for listening.
    :param prefix: goes before every channel.
    :param max_pending: the most messages that one listener may be behind.
    :param timeout: seconds that the server may take to confirm.
    :param heartbeat: seconds of silence after which the server is asked for a sign of life.
    """

    def __init__(
        self,
        wire: Wire,
        connect: Callable[[], AbstractConnection],
        *,
        prefix: str,
        max_pending: int,
        timeout: float,
        heartbeat: float = 1.0,
        retry_interval: float = 0.25,
    ) -> None:
        self._wire = wire
        self._connect = connect
        self._prefix = prefix
        self._max_pending = max_pending
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._retry_interval = retry_interval
        self._inboxes: dict[str, set[Inbox]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._connection: AbstractConnection | None = None
        self._heard = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="prodkit-redis-bus")

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def publish(self, channel: str, message: bytes) -> None:
        await self._wire.call("PUBLISH", self._prefix + channel, message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes | None]]:
        if self._task is None:
            raise ConfigurationError(
                "the Redis backend is not open: hand it to Resources(backend), or use `async with backend:`"
            )
        name = self._prefix + channel
        inbox = Inbox(self._max_pending)
        first = name not in self._inboxes
        self._inboxes.setdefault(name, set()).add(inbox)
        try:
            if first:
                self._confirmed[name] = asyncio.Event()
                await self._send("SUBSCRIBE", name)
            try:
                async with asyncio.timeout(max(self._timeout, 2.0)):
                    await self._confirmed[name].wait()
            except TimeoutError:
                raise UnavailableError("the Redis server did not confirm a subscription") from None
            yield inbox
        finally:
            listeners = self._inboxes[name]
            listeners.discard(inbox)
            if not listeners:
                del self._inboxes[name], self._confirmed[name]
                await self._send("UNSUBSCRIBE", name)

    async def _send(self, *command: Any) -> None:
        """Send on the listening connection, if there is one; `_run` subscribes on a new one itself."""
        connection = self._connection
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.send_command(*command, check_health=False)

    async def _run(self) -> None:
        while True:
            connection = self._connect()
            try:
                async with asyncio.timeout(1.0):
                    await connection.connect()
                self._connection = connection
                if self._inboxes:
                    await self._send("SUBSCRIBE", *self._inboxes)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(connection))
                    group.create_task(self._watch())
            except* (RedisError, OSError) as errors:
                logger.warning("lost the listening connection: %s", type(errors.exceptions[0]).__name__)
            finally:
                self._connection = None
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
                for name, listeners in self._inboxes.items():
                    self._confirmed[name].clear()
                    for inbox in listeners:
                        inbox.lose()
            await asyncio.sleep(self._retry_interval)

    async def _listen(self, connection: AbstractConnection) -> None:
        while True:
            reply: Any = await connection.read_response(timeout=math.inf)
            self._heard = True
            if not isinstance(reply, list):
                continue
            kind, name = reply[0], reply[1].decode()
            if kind == b"message":
                for inbox in self._inboxes.get(name, ()):
                    inbox.put(reply[2])
            elif kind == b"subscribe" and name in self._confirmed:
                self._confirmed[name].set()

    async def _watch(self) -> None:
        """A frozen server keeps its sockets open: ask, and hang up where no answer comes."""
        while True:
            self._heard = False
            await asyncio.sleep(self._heartbeat)
            if not self._heard:
                await self._send("PING")
                await asyncio.sleep(self._heartbeat)
                if not self._heard:
                    raise TimeoutError
