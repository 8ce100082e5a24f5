"""Messages to everyone who listens, through a Redis-protocol server."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from ...errors import ConfigurationError, UnavailableError
from .._inbox import Inbox
from .url import Wire

__all__ = ["RedisBus"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")


class _Channel:
    """:ivar asked: how many SUBSCRIBE commands the server has not confirmed yet."""

    def __init__(self) -> None:
        self.inboxes: set[Inbox] = set()
        self.confirmed = asyncio.Event()
        self.asked = 0
        self._interrupted = False

    def confirm(self) -> None:
        """The server says that it listens. After an interruption the gap ends here: tell of it again."""
        if self._interrupted:
            self._lose()
        self._interrupted = False
        self.confirmed.set()

    def interrupt(self) -> None:
        self._interrupted = True
        self.asked = 0
        self.confirmed.clear()
        self._lose()

    def _lose(self) -> None:
        for inbox in self.inboxes:
            inbox.lose()


class RedisBus:
    """A `Bus` over pub/sub: one listening connection per process, for all its channels.

    A connection that is lost, or silent for longer than `heartbeat` allows, is replaced and the channels are
    subscribed again. Every listener is told twice, by a `None`, that messages may be missing: when the
    connection is lost, and when it is heard again.

    :param wire: carries what is published, and dials the listening connection.
    :param prefix: goes before every channel.
    :param max_pending: the most messages that one listener may be behind.
    :param timeout: seconds that the server may take to confirm.
    :param heartbeat: seconds of silence after which the server is asked for a sign of life.
    :param connect_timeout: seconds that one attempt to connect may take.
    :param retry_interval: seconds between two attempts to connect.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        prefix: str,
        max_pending: int,
        timeout: float,
        heartbeat: float = 1.0,
        connect_timeout: float = 1.0,
        retry_interval: float = 0.25,
    ) -> None:
        self._wire = wire
        self._prefix = prefix
        self._max_pending = max_pending
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._connect_timeout = connect_timeout
        self._retry_interval = retry_interval
        self._channels: dict[str, _Channel] = {}
        self._connection: AbstractConnection | None = None
        self._heard = False
        self._task: asyncio.Task[None] | None = None
        self._inherited: list[object] = []

    async def open(self) -> None:
        if self._task is not None:  # got by fork(): see Link
            self._inherited.append((self._task, self._connection, self._channels))
            self._connection, self._channels = None, {}
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
        heard = self._channels.get(name)
        if heard is None:
            heard = self._channels[name] = _Channel()
        heard.inboxes.add(inbox)
        try:
            if len(heard.inboxes) == 1:
                await self._ask_for(name)
            try:
                async with asyncio.timeout(max(self._timeout, 2.0)):
                    await heard.confirmed.wait()
            except TimeoutError:
                raise UnavailableError("the Redis server did not confirm a subscription") from None
            yield inbox
        finally:
            heard.inboxes.discard(inbox)
            if not heard.inboxes:
                heard.confirmed.clear()
                await self._send("UNSUBSCRIBE", name)
                if not heard.inboxes and not heard.asked:
                    self._channels.pop(name, None)

    async def _ask_for(self, *names: str) -> None:
        if self._connection is not None:
            for name in names:
                self._channels[name].asked += 1
            await self._send("SUBSCRIBE", *names)

    async def _send(self, *command: Any) -> None:
        """Send on the listening connection, if there is one; `_run` subscribes on a new one itself."""
        connection = self._connection
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.send_command(*command, check_health=False)

    async def _run(self) -> None:
        while True:
            connection: AbstractConnection | None = None
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await self._wire.dial()
                    await connection.connect()
                self._connection = connection
                if self._channels:
                    await self._ask_for(*self._channels)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(connection))
                    group.create_task(self._watch())
            except* Exception as errors:  # whatever it is: this task outlives it and tries again
                level = logging.DEBUG if self._connection is None else logging.WARNING
                error = errors.exceptions[0]
                logger.log(level, "lost the listening connection: %s: %s", type(error).__name__, error)
            finally:
                self._lose()
                if connection is not None:
                    with suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            await asyncio.sleep(self._retry_interval)

    def _lose(self) -> None:
        if self._connection is None:
            return
        self._connection = None
        for name, channel in list(self._channels.items()):
            channel.interrupt()
            if not channel.inboxes:
                del self._channels[name]

    async def _listen(self, connection: AbstractConnection) -> None:
        while True:
            reply: Any = await connection.read_response(timeout=math.inf)
            self._heard = True
            if not isinstance(reply, list):
                continue
            kind, name = reply[0], reply[1].decode()
            channel = self._channels.get(name)
            if channel is None:
                continue
            if kind == b"message":
                for inbox in channel.inboxes:
                    inbox.put(reply[2])
            elif kind == b"subscribe":
                channel.asked -= 1
                if not channel.asked and channel.inboxes:
                    channel.confirm()
            elif not channel.inboxes and not channel.asked:
                del self._channels[name]

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
