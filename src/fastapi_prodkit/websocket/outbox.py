"""What goes out on one socket: written at once while the client keeps up, queued while it does not."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from starlette.websockets import WebSocket

__all__ = ["Outbox"]


class Outbox:
    """A bounded queue that nobody but its own socket ever waits for.

    A socket that keeps up has no queue and no task: the first step of `send` writes the message and is done.
    Only where that step would wait does a task take over, until the client has caught up.

    :param max_pending: the most messages that wait.
    :param drop_oldest: what to do beyond it: drop the oldest, or call `stalled`.
    :param timeout: seconds that one message may wait to be written; then `stalled` is called.
    :param stalled: the client reads too slowly.
    :param lost: the connection is gone.
    """

    def __init__(
        self,
        websocket: WebSocket,
        *,
        max_pending: int,
        drop_oldest: bool,
        timeout: float,
        stalled: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._websocket = websocket
        self._max_pending = max_pending
        self._drop_oldest = drop_oldest
        self._timeout = timeout
        self._stalled = stalled
        self._lost = lost
        self._pending: deque[str] = deque()
        self._space = asyncio.Event()
        self._started = False
        self._closed = False
        self._writer: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()

    def start(self) -> None:
        """The handshake is done: write what waits for it."""
        self._started = True
        if self._pending:
            self._write(self._pending.popleft())

    def put(self, text: str) -> None:
        """Write or queue `text`; never waits and never raises."""
        if self._started and self._writer is None:
            self._write(text)
        elif len(self._pending) < self._max_pending:
            self._pending.append(text)
        elif self._drop_oldest:
            self._pending.popleft()
            self._pending.append(text)
        else:
            self._stalled()

    async def space(self) -> None:
        """Wait until another message may be put, or none ever will."""
        while len(self._pending) >= self._max_pending and not self._closed:
            self._space.clear()
            await self._space.wait()

    async def drain(self) -> None:
        """Wait until everything is written."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

    def close(self, *, discard: bool) -> None:
        """Nothing more is put.

        :param discard: drop what waits, a message that is being written included.
        """
        self._closed = True
        self._space.set()
        if discard:
            self._pending.clear()
            if self._writer is not None:
                self._writer.cancel()

    def _write(self, text: str) -> None:
        sending = self._send(text)
        try:
            waits_for = self._context.run(sending.send, None)
        except StopIteration:
            if self._pending:
                self._go_on()
        except Exception:
            self._lost()
        else:
            self._go_on(_resumed(sending, waits_for))

    def _send(self, text: str) -> Coroutine[Any, Any, None]:
        return self._websocket.send({"type": "websocket.send", "text": text})

    def _go_on(self, first: Generator[Any, Any, None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._writer = loop.create_task(self._write_pending(first), context=self._context)

    async def _write_pending(self, first: Generator[Any, Any, None] | None) -> None:
        try:
            if first is not None:
                async with asyncio.timeout(self._timeout):
                    await first  # type: ignore[misc]  # types.coroutine makes it awaitable
            while self._pending:
                text = self._pending.popleft()
                self._space.set()
                async with asyncio.timeout(self._timeout):
                    await self._send(text)
        except TimeoutError:
            self._stalled()
        except Exception:
            self._lost()
        finally:
            self._writer = None


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on, in a task, with a coroutine whose first step was taken by hand and waits for `waits_for`."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(value)
    except StopIteration:
        return
