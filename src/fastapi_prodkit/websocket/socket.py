"""One member of the rooms: what comes in, what goes out, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic_core import from_json, to_json
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..errors import ConfigurationError
from . import codes
from .gap import GapCalls
from .inbox import Inbox
from .outbox import Outbox
from .transport import find_transport

__all__ = ["Limits", "Socket"]

logger = logging.getLogger("fastapi_prodkit.websocket")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one socket may cost: see `Hub`."""

    max_pending: int
    overflow: Literal["close", "drop_oldest"]
    max_message_size: int
    send_timeout: float
    close_timeout: float


class Socket:
    """A WebSocket that is in rooms. `Hub.join` makes it and ends it.

    `async for message in socket` yields what the client sends, decoded from JSON, and ends when the socket
    does. A message that is not JSON ends it with 1007, a binary one with 1003, one that is too big with 1009.
    """

    def __init__(
        self,
        websocket: WebSocket,
        limits: Limits,
        *,
        on_gap: Callable[[Socket], Awaitable[None]] | None,
        on_end: Callable[[Socket], None],
        expires: float = math.inf,
        clock: Callable[[], float],
    ) -> None:
        self.websocket = websocket
        self.rooms: set[str] = set()
        self._limits = limits
        self._on_end = on_end
        self._expires = expires
        self._clock = clock
        self._inbox = Inbox(patience=limits.close_timeout)
        self._outbox = Outbox(
            websocket,
            max_pending=limits.max_pending,
            drop_oldest=limits.overflow == "drop_oldest",
            timeout=limits.send_timeout,
            stalled=self._too_slow,
            lost=lambda: self.end(codes.LOST, tell=False),
        )
        self._gap = on_gap and GapCalls(lambda: on_gap(self), failed=lambda: self.end(codes.FAILED))
        self._transport = find_transport()
        self._code: int | None = None
        self._closing: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._body: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()

    @property
    def close_code(self) -> int | None:
        """The close code, once the socket has ended."""
        return self._code

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, or an endpoint that used `websocket` itself found the client gone."""
        states = (self.websocket.client_state, self.websocket.application_state)
        return self._code is not None or WebSocketState.DISCONNECTED in states

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        text = await self._inbox.get()
        if text is None:
            raise StopAsyncIteration
        try:
            return from_json(text, allow_inf_nan=False)
        except ValueError:
            self.end(codes.NOT_JSON, "The message is not JSON.")
            raise StopAsyncIteration from None

    async def send(self, data: Any) -> None:
        """Send `data` as JSON to this client alone; waits while its queue is full.

        Anything that pydantic serialises may be sent; `NaN` becomes `null`.

        :raises WebSocketDisconnect: if the socket has ended.
        """
        text = to_json(data, inf_nan_mode="null").decode()
        await self._outbox.space()
        if self._code is not None:
            raise WebSocketDisconnect(self._code)
        self._outbox.put(text)
        await asyncio.sleep(0)  # writing may not have waited: a loop of sends would starve everyone else

    async def close(self, code: int = codes.NORMAL, reason: str = "") -> None:
        """Say goodbye once everything queued is written, waiting `close_timeout` seconds at most.

        :raises ConfigurationError: for a code that no close frame may carry.
        """
        if not codes.is_sendable(code):
            raise ConfigurationError(f"code={code!r} may not be sent: give 1000, or one from 3000 to 4999")
        self.end(code, reason)
        if self._closing is not None:
            await asyncio.wait([self._closing])

    async def wait_ended(self) -> None:
        """Wait until the socket ends: for an endpoint that only sends, or has read all that it wants."""
        self._inbox.rest()
        await self._ended.wait()

    def offer(self, text: str) -> None:
        """Send `text`, or queue it, or end a socket that is too slow. Never waits."""
        if self._code is None:
            self._outbox.put(text)

    def tell_gap(self) -> None:
        """Messages may be missing: call `on_gap`."""
        if self._gap is not None and self._code is None:
            self._gap.tell()

    def open(self) -> None:
        """The handshake is done: read, and write what was queued meanwhile."""
        self._body = asyncio.current_task()
        self._reader = asyncio.create_task(self._read())
        if self._code is not None:
            self._closing = asyncio.create_task(self._say_goodbye(self._code, ""))
            return
        self._outbox.start()
        self._check_expiry()

    def end(self, code: int, reason: str = "", *, flush: bool = True, tell: bool = True) -> None:
        """End the socket, once: out of its rooms now, then the close frame.

        :param flush: write first what is queued.
        :param tell: send a close frame; `False` where the client is gone.
        """
        if self._code is not None:
            return
        self._code = code
        self._on_end(self)
        self._inbox.end(discard=tell)
        self._outbox.close(discard=not (flush and tell))
        self._ended.set()
        self._set_timer(self._limits.close_timeout, self._interrupt)
        if tell and self._reader is not None:
            self._closing = asyncio.create_task(self._say_goodbye(code, reason))

    def was_interrupted(self) -> bool:
        """Whether the cancellation that the endpoint sees is ours, because it outlived its socket."""
        return self._interrupted and self._body is not None and self._body.uncancel() == 0

    async def finish(self) -> None:
        """Wait for the goodbye and leave nothing behind."""
        self._body = None
        if self._timer is not None:
            self._timer.cancel()
        if self._gap is not None:
            self._gap.cancel()
        if self._reader is not None:
            self._reader.cancel()
        if self._closing is not None:
            await asyncio.wait([self._closing])
        self._outbox.close(discard=True)
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._limits.close_timeout, transport.abort)

    async def _read(self) -> None:
        while True:
            try:
                message = await self.websocket.receive()
            except Exception as error:
                logger.debug("nothing more can be read: %s", type(error).__name__)
                message = {"type": "websocket.disconnect", "code": codes.LOST}
            if message["type"] == "websocket.disconnect":
                self.end(message.get("code") or codes.NO_CODE, tell=False)
                return
            text = message.get("text")
            if text is None:
                self.end(codes.NOT_TEXT, "Send text, not bytes.")
            elif len(text.encode()) > self._limits.max_message_size:
                self.end(codes.TOO_BIG, f"A message may have {self._limits.max_message_size} bytes.")
            else:
                await self._inbox.put(text)

    def _check_expiry(self) -> None:
        """Look at the clock again every hour at least: it may be set, and a timer does not notice."""
        remaining = self._expires - self._clock()
        if remaining <= 0:
            self.end(codes.UNAUTHORIZED, "The token has expired.")
        elif remaining < math.inf:
            self._set_timer(min(remaining, 3600), self._check_expiry)

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, callback)

    def _interrupt(self) -> None:
        if self._body is not None:
            self._interrupted = True
            self._body.cancel()

    async def _say_goodbye(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self._limits.close_timeout):
                await self._outbox.drain()
                await self.websocket.close(code, codes.fitting(reason))
        except Exception as error:  # a client that does not read, or is gone
            logger.debug("no close frame was sent: %s", type(error).__name__)

    def _too_slow(self) -> None:
        logger.warning("closed a socket that reads too slowly")
        self.end(codes.TRY_LATER, "Too slow: reconnect and catch up.", flush=False)
