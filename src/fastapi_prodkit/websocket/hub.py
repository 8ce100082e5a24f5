"""Rooms of sockets, in every process that shares the bus."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

from pydantic_core import to_json
from starlette.websockets import WebSocket, WebSocketState

from .._arguments import count, moment, names, plain_function, seconds, text
from .._sharing import Users
from ..errors import ConfigurationError, ProblemError, UnavailableError
from ..typing import Bus
from . import codes
from .room import Room, mark
from .socket import Limits, Socket

__all__ = ["Hub"]

logger = logging.getLogger("fastapi_prodkit.websocket")


class Hub:
    """Puts sockets into rooms, and hands what is broadcast to everyone in a room, in every process.

    :param bus: carries the messages between processes.
    :param max_pending: the most messages that wait for one slow client.
    :param overflow: beyond that, `"close"` the socket with 1013, or `"drop_oldest"`.
    :param max_message_size: the largest message that a client may send, in bytes.
    :param send_timeout: seconds that a client may take to accept one message before it is closed with 1013.
    :param close_timeout: seconds that a goodbye may take before the connection is dropped, and that an
        endpoint may go on after its socket ended before it is cancelled.
    :param clock: seconds since the epoch, for `expires`.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        max_pending: int = 256,
        overflow: Literal["close", "drop_oldest"] = "close",
        max_message_size: int = 64 * 1024,
        send_timeout: float = 10.0,
        close_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(bus, Bus):
            raise ConfigurationError(f"{bus!r} is no bus: give Hub a `backend.bus`")
        count("max_pending", max_pending)
        count("max_message_size", max_message_size)
        seconds("send_timeout", send_timeout)
        seconds("close_timeout", close_timeout)
        if overflow not in ("close", "drop_oldest"):
            raise ConfigurationError(f"overflow={overflow!r} must be 'close' or 'drop_oldest'")
        self._bus = bus
        self._limits = Limits(max_pending, overflow, max_message_size, send_timeout, close_timeout)
        self._clock = plain_function("clock", clock)
        self._state: Literal["new", "open", "closed"] = "new"
        self._users = Users("Hub")
        self._rooms: dict[str, Room] = {}
        self._sockets: set[Socket] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Self:
        """The dependency: `Annotated[Hub, Depends(hub)]`, to be overridden in a test."""
        return self

    @property
    def sockets(self) -> int:
        """How many sockets this process holds."""
        return len(self._sockets)

    async def __aenter__(self) -> Self:
        if self._users.enter():
            self._state = "open"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Send 1012, "service restart", to everyone; back after `close_timeout` seconds at most.

        Where several apps share it, the last one that stops does.
        """
        if not self._users.leave():
            return
        self._state = "closed"
        goodbyes = [socket.close(codes.RESTART, "The server restarts.") for socket in tuple(self._sockets)]
        await asyncio.gather(*goodbyes)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=self._limits.close_timeout)

    @asynccontextmanager
    async def join(
        self,
        websocket: WebSocket,
        *rooms: str,
        subprotocols: Sequence[str] = (),
        expires: float = math.inf,
        on_gap: Callable[[Socket], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Socket]:
        """Accept `websocket` into `rooms`; the end of the block says goodbye.

        What is broadcast after the client has seen the handshake succeed reaches it. An exception in the
        block becomes a close code (see `docs/components/websocket.md`), never a 1006; one that is nobody's
        fault but ours is logged.

        :param subprotocols: what the endpoint speaks, best first. Without a match a client that offered
            `bearer` gets that; a token is never echoed.
        :param expires: seconds since the epoch (`claims.expires`) at which it is closed with 3000.
        :param on_gap: called when messages may have been missed, because the bus was away or this process
            too slow: the place to send the present state again.
        :raises ProblemError: 503 before the handshake, while the hub closes.
        :raises ConfigurationError: if the hub was not entered, the socket is accepted already, or an argument
            cannot be meant.
        """
        self._check_open()
        names("subprotocols", subprotocols)
        moment("expires", expires)
        if websocket.application_state is not WebSocketState.CONNECTING:
            raise ConfigurationError("join() accepts the socket: leave out `await websocket.accept()`")
        socket = Socket(
            websocket,
            self._limits,
            on_gap=on_gap,
            on_end=self._forget,
            expires=expires,
            clock=self._clock,
        )
        self._sockets.add(socket)
        try:
            await asyncio.gather(*(self.enter(socket, room) for room in rooms))
            await websocket.accept(subprotocol=_choose(websocket.scope["subprotocols"], subprotocols))
            socket.open()
        except BaseException:
            self._forget(socket)
            raise
        try:
            yield socket
        except Exception as error:
            is_gone = socket.is_gone
            code, reason = codes.code_of(error, is_gone=is_gone)
            if code == codes.FAILED:
                logger.exception("a WebSocket endpoint failed")
            socket.end(code, reason, tell=not is_gone)
        except asyncio.CancelledError:
            socket.end(codes.RESTART)
            if not socket.was_interrupted():
                raise
        else:
            socket.end(codes.NORMAL)
        finally:
            await socket.finish()

    async def enter(self, socket: Socket, room: str) -> None:
        """Put `socket` into one more room; once back, nothing that is broadcast there is missed."""
        channel = _channel(room)
        if not room:
            raise ConfigurationError("a room needs a name")
        if socket.close_code is not None:  # what its client said before it left may still be handled
            return
        if room not in self._rooms:
            self._rooms[room] = Room(self._bus, channel)
        self._rooms[room].members.add(socket)
        socket.rooms.add(room)
        await self._rooms[room].listening()

    def leave(self, socket: Socket, room: str) -> None:
        """Take `socket` out of a room."""
        socket.rooms.discard(room)
        left = self._rooms.get(room)
        if left is None:
            return
        left.members.discard(socket)
        if not left.members:
            task = self._rooms.pop(room).close()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def broadcast(self, room: str, data: Any) -> bool:
        """Send `data` as JSON to everyone in `room`, in every process.

        Anything that pydantic serialises may be sent; `NaN` becomes `null`.

        :return: `True` if the bus took it; `False` if it is away and only the sockets of this process
            were reached. It is logged and never raised: what was done is done.
        """
        message = mark(to_json(data, inf_nan_mode="null"))
        try:
            await self._bus.publish(_channel(room), message)
        except UnavailableError as error:
            logger.warning("a broadcast reached this process alone: %s", error)
            if room in self._rooms:
                await self._rooms[room].deliver_here(message)
            return False
        await asyncio.sleep(0)  # a bus in memory never waits: without this a loop of broadcasts overruns it
        return True

    def _forget(self, socket: Socket) -> None:
        self._sockets.discard(socket)
        for room in tuple(socket.rooms):
            self.leave(socket, room)

    def _check_open(self) -> None:
        if self._state == "closed":
            raise ProblemError(503, "The server restarts.", headers={"Retry-After": "1"})
        if self._state == "new":
            raise ConfigurationError("the hub is not open: use Resources(hub), or `async with hub:`")


def _channel(room: str) -> str:
    return f"room:{text('room', room)}"


def _choose(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """One of the offered subprotocols, or none: a client fails the handshake on any other."""
    best = next((each for each in spoken if each in offered), None)
    return best or ("bearer" if "bearer" in offered else None)
