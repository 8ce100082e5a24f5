"""One connection that many callers share.

Commands issued while an exchange is in flight travel together in the next one: a burst of a thousand calls
costs a handful of round trips, and no pool runs dry. Connecting happens in the background; while there is no
connection every call fails at once, so that a server that is away costs its timeout once, not per request.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ...errors import ConfigurationError, UnavailableError

__all__ = ["Link", "unavailable"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")

_LATE = 0.02  # a timer this late means that the loop was stalled, not the server
_FATAL = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED", "NOAUTH", "WRONGPASS")


class _Call(NamedTuple):
    command: tuple[Any, ...]
    reply: asyncio.Future[Any]


class Link:
    """A pipelined connection that mends itself.

    :param connect: makes a fresh, unconnected connection.
    :param timeout: seconds that an exchange may take; the connection is dropped after it.
    :param connect_timeout: seconds that one attempt to connect may take.
    :param retry_interval: seconds between two attempts to connect.
    :param max_batch: the most commands in one exchange.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        *,
        timeout: float,
        connect_timeout: float = 1.0,
        retry_interval: float = 0.25,
        max_batch: int = 512,
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._retry_interval = retry_interval
        self._max_batch = max_batch
        self._queue: list[_Call] = []
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = False
        self._expired = False

    @property
    def is_up(self) -> bool:
        return self._up

    async def open(self) -> None:
        """Start connecting; returns when the first attempt succeeded or failed."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried), name="prodkit-redis-link")
        await tried.wait()

    async def close(self) -> None:
        task, self._task, self._up = self._task, None, False
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._fail(UnavailableError("the Redis backend was closed"))

    async def call(self, *command: Any) -> Any:
        """The reply to one command.

        :raises UnavailableError: if there is no connection, the reply is late, or the server refuses.
        """
        if not self._up or self._loop is None or self._wake is None:
            if self._task is None:
                raise ConfigurationError(
                    "the Redis backend is not open: hand it to Resources(backend), or use "
                    "`async with backend:`"
                )
            raise UnavailableError("no connection to the Redis server")
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append(_Call(command, reply))
        self._wake.set()
        return await reply

    async def _run(self, tried: asyncio.Event) -> None:
        while True:
            connection = self._connect()
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await connection.connect()
                self._up = True
                tried.set()
                await self._serve(connection)
            except (RedisError, OSError) as error:
                level = logging.WARNING if self._up or not tried.is_set() else logging.DEBUG
                self._up = False
                tried.set()
                logger.log(level, "the Redis server is away: %s", type(error).__name__)
                self._fail(unavailable(error))
            finally:
                self._up = False
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(self._retry_interval)

    async def _serve(self, connection: AbstractConnection) -> None:
        assert self._wake is not None
        while True:
            await self._wake.wait()
            batch, self._queue = self._queue[: self._max_batch], self._queue[self._max_batch :]
            if not self._queue:
                self._wake.clear()
            try:
                await self._exchange(connection, batch)
            except BaseException as error:
                for call in batch:
                    _settle(call, unavailable(error))
                raise

    async def _exchange(self, connection: AbstractConnection, batch: list[_Call]) -> None:
        assert self._loop is not None
        timer = self._arm(self._loop, asyncio.current_task())
        try:
            await connection.send_packed_command(
                connection.pack_commands([call.command for call in batch]), check_health=False
            )
            for call in batch:
                try:
                    reply: Any = await connection.read_response(timeout=math.inf)
                except ResponseError as error:
                    if str(error).startswith(_FATAL):
                        raise
                    reply = error if isinstance(error, NoScriptError) else unavailable(error)
                _settle(call, reply)
        except asyncio.CancelledError:
            if not self._expired:
                raise
            self._expired = False
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            raise TimeoutError(f"no reply within {self._timeout} s") from None
        finally:
            timer[0].cancel()

    def _arm(
        self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
    ) -> list[asyncio.TimerHandle]:
        """A timer that interrupts the exchange, but not for a stall of our own loop."""
        due = loop.time() + self._timeout

        def expire(due: float) -> None:
            now = loop.time()
            if now - due > _LATE:
                handle[0] = loop.call_at(now + self._timeout, expire, now + self._timeout)
                return
            assert task is not None
            self._expired = True
            task.cancel()

        handle = [loop.call_at(due, expire, due)]
        return handle

    def _fail(self, error: UnavailableError) -> None:
        queue, self._queue = self._queue, []
        if self._wake is not None:
            self._wake.clear()
        for call in queue:
            _settle(call, error)


def _settle(call: _Call, reply: Any) -> None:
    if call.reply.done():
        return
    if isinstance(reply, Exception):
        call.reply.set_exception(reply)
    else:
        call.reply.set_result(reply)


def unavailable(error: BaseException) -> UnavailableError:
    """What a caller sees of an error of the client library."""
    wrapped = UnavailableError(f"the Redis server did not answer: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
