"""One connection that many callers share.

What is called while replies are awaited is written together and answered in order: a burst of a thousand
calls costs a handful of packets, and no pool runs dry. Connecting happens in the background; while there is
no connection every call fails at once, so that a server that is away costs its timeout once, not per request.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ...errors import ConfigurationError, UnavailableError
from .calls import Call, forget, unavailable, unreachable
from .connection import PUSHED, Command, greet, pack, writer_of
from .watch import Watch

__all__ = ["Command", "Dial", "Link"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")

Dial = Callable[..., Coroutine[Any, Any, AbstractConnection]]

_ELSEWHERE = (ReadOnlyError, MasterDownError)  # this is not, or no longer, the server to talk to


class Link:
    """A pipelined connection that mends itself.

    :param dial: makes a fresh, unconnected connection.
    :param timeout: seconds that the next reply may take; the connection is dropped after it. A server that
        works its way through a burst is not away.
    :param purpose: what the connection is for, for the log.
    :param passes: errors that the layer above knows how to go on from; others become `UnavailableError`.
    :param greeting: commands for each new connection, before it counts as up.
    :param on_push: called with what the server says unasked (RESP3), in order with the replies.
    :param on_up: called whenever a connection is established.
    :param on_lost: called whenever an established connection is gone.
    :param heartbeat: seconds between two signs of life that an idle server is asked for, if any.
    :param connect_timeout: seconds that one attempt to connect may take, the first one twice that.
    :param retry_interval: seconds between two attempts to connect.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        timeout: float,
        purpose: str = "commands",
        passes: tuple[type[ResponseError], ...] = (NoScriptError,),
        greeting: Sequence[Command] = (),
        on_push: Callable[[Any], None] | None = None,
        on_up: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        heartbeat: float | None = None,
        connect_timeout: float = 1.0,
        retry_interval: float = 0.25,
    ) -> None:
        self.dial = dial
        self._timeout = timeout
        self._purpose = purpose
        self._passes = passes
        self._greeting = [*greeting, ("PING",)]
        self._on_push = on_push
        self._on_up = on_up
        self._on_lost = on_lost
        self._heartbeat = heartbeat
        self._connect_timeout = connect_timeout
        self._retry_interval = retry_interval
        self._calls: deque[Call] = deque()
        self._unsent: list[bytes] = []
        self._is_calm = True  # one call at a time: nothing is gained by waiting for the next
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._watch = Watch(self._calls, timeout, self._hang_up)
        self._refusal: AuthenticationError | None = None
        # what a process got by fork() while its parent was connected: collecting it would unregister the
        # parent's sockets from the poll object that the two still share
        self._inherited: list[object] = []

    @property
    def is_up(self) -> bool:
        return self._writer is not None

    @property
    def is_open(self) -> bool:
        """Whether it was opened on this event loop; the server may be away."""
        return self._task is not None and asyncio.get_running_loop() is self._loop

    async def open(self) -> None:
        """Start connecting; returns when the first attempt succeeded or failed.

        :raises ConfigurationError: if the server is there and refuses the credentials.
        """
        if self._task is not None:
            self._inherited.append((self._task, self._connection))
            self._reset()
        self._loop = asyncio.get_running_loop()
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried), name="prodkit-redis-link")
        try:
            await tried.wait()
        except BaseException:
            await self.close()
            raise
        if self._refusal is not None:
            refusal = self._refusal
            await self.close()
            raise ConfigurationError(
                f"the Redis server refuses the credentials in the URL: {refusal}"
            ) from None

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def call(self, *command: Any) -> Any:
        """The reply to one command.

        :raises UnavailableError: if there is no connection, the reply is late, or the server refuses.
        """
        return (await self._submit((command,), 1))[0]

    async def many(self, *commands: Command) -> list[Any]:
        """The replies to several commands that travel together, in their order.

        :raises UnavailableError: as `call`, for the first command that fails.
        """
        return await self._submit(commands, len(commands)) if commands else []

    def tell(self, *command: Any) -> asyncio.Future[Any]:
        """Done when the server took a command that it answers by a push, such as SUBSCRIBE.

        :raises UnavailableError: at once, if there is no connection.
        """
        return self._submit((command, ("PING",)), 1)

    def _submit(self, commands: Sequence[Command], replies: int) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        writer = self._writer
        if writer is None or self._connection is None or loop is not self._loop or writer.is_closing():
            raise unreachable(is_open=self.is_open)
        packed = pack(commands[0]) if len(commands) == 1 else b"".join(map(pack, commands))
        now = loop.time()
        call = Call(loop.create_future(), replies, now + self._timeout)
        self._watch.see_to(call)
        if not self._calls and self._is_calm:
            writer.write(packed)
        else:
            if not self._unsent:
                loop.call_soon(self._flush)
            self._unsent.append(packed)
        self._calls.append(call)
        return call.waiter

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        # uvloop raises where asyncio drops what is written to a connection that was closed a moment ago
        if self._writer is not None and unsent and not self._writer.is_closing():
            self._is_calm = len(unsent) == 1
            self._writer.write(b"".join(unsent))

    async def _run(self, tried: asyncio.Event) -> None:
        while True:
            connection: AbstractConnection | None = None
            try:
                # the first attempt gets twice the time: an app that starts is a busy one
                async with asyncio.timeout(self._connect_timeout * (1 if tried.is_set() else 2)):
                    connection = await self.dial()
                    await greet(connection, self._greeting, self._on_push)
                if tried.is_set():
                    logger.info("the Redis server is back (%s)", self._purpose)
                self._refusal = None
                self._connection, self._writer = connection, writer_of(connection)
                tried.set()
                if self._on_up is not None:
                    self._on_up()
                self._beat()
                await self._read(connection)
            except Exception as error:  # whatever it is: this task outlives it and tries again
                self._lose(error, first=not tried.is_set())
                tried.set()
            finally:
                self._drop()
                if connection is not None:
                    with suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            await asyncio.sleep(self._retry_interval)

    async def _read(self, connection: AbstractConnection) -> None:
        calls = self._calls
        loop = asyncio.get_running_loop()
        while True:
            try:
                # without push_request the parser calls itself for every push that no reply follows
                reply: Any = await connection.read_response(timeout=math.inf, push_request=True)
            except _ELSEWHERE:
                raise
            except ResponseError as error:
                reply = error if isinstance(error, self._passes) else unavailable(error)
            if reply is PUSHED:
                continue
            call = calls[0]
            call.replies.append(reply)
            if len(call.replies) == call.expected:
                self._watch.heard_at = loop.time()
                calls.popleft()
                call.settle()

    def _beat(self) -> None:
        """A frozen server keeps its sockets open: an idle one is asked, and the watch hangs up."""
        if self._heartbeat is None or self._loop is None or self._connection is None:
            return
        if not self._calls:
            with suppress(UnavailableError):  # it hung up a moment ago
                forget(self._submit((("PING",),), 1))
        self._pulse = self._loop.call_later(self._heartbeat, self._beat)

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    def _lose(self, error: Exception, *, first: bool) -> None:
        if self._watch.is_late:
            error = TimeoutError(f"no reply within {self._timeout} s")
        news = first or self.is_up
        if isinstance(error, AuthenticationError):
            news = news or self._refusal is None
            self._refusal = error
        level = logging.WARNING if news else logging.DEBUG
        logger.log(level, "the Redis server is away (%s): %s: %s", self._purpose, type(error).__name__, error)
        self._fail(unavailable(error))

    def _drop(self) -> None:
        """Forget the connection; whoever still waits is told."""
        was_up = self.is_up
        self._fail(UnavailableError("the connection to the Redis server is closed"))
        self._watch.stop()
        if self._pulse is not None:
            self._pulse.cancel()
        self._reset()
        if was_up and self._on_lost is not None:
            self._on_lost()

    def _reset(self) -> None:
        self._connection = self._writer = self._pulse = None
        self._unsent = []
        self._calls.clear()
        self._watch = Watch(self._calls, self._timeout, self._hang_up)

    def _fail(self, error: UnavailableError) -> None:
        while self._calls:
            self._calls.popleft().fail(error)
