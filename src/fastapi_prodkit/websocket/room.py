"""A room: one subscription in this process, handed on to every socket in it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque

from ..errors import UnavailableError
from ..typing import Bus
from .socket import Socket

__all__ = ["Room", "mark"]

logger = logging.getLogger("fastapi_prodkit.websocket")

_RETRY_INTERVAL = 0.25
_MARK = 8  # bytes before each message on the bus that tell one from another
_BATCH = 128  # sockets written to before the loop may do something else


def mark(message: bytes) -> bytes:
    """What travels on the bus: the message behind a random mark."""
    return secrets.token_bytes(_MARK) + message


class Room:
    """The sockets of this process that are in one room.

    :param channel: where its messages travel on the bus.
    """

    def __init__(self, bus: Bus, channel: str) -> None:
        self.members: set[Socket] = set()
        self._bus = bus
        self._channel = channel
        self._delivered: deque[bytes] = deque(maxlen=256)
        self._missed = False
        self._tried = asyncio.Event()
        self._task = asyncio.create_task(self._listen(), name=f"prodkit-room-{channel}")

    async def listening(self) -> None:
        """Wait until the bus confirmed the subscription, or failed to: then it is tried again and again."""
        await self._tried.wait()

    def close(self) -> asyncio.Task[None]:
        """Stop listening; the task ends once the bus knows."""
        self._task.cancel()
        return self._task

    async def deliver_here(self, marked: bytes) -> None:
        """Hand on what could not be published; should it come over the bus after all, it is left out."""
        self._delivered.append(marked[:_MARK])
        await self._deliver(marked)

    async def _deliver(self, marked: bytes) -> None:
        text = marked[_MARK:].decode()
        for count, socket in enumerate(tuple(self.members), 1):
            if socket in self.members:  # it may have left while the loop did something else
                socket.offer(text)
            if count % _BATCH == 0:
                await asyncio.sleep(0)

    async def _listen(self) -> None:
        try:
            while True:
                await self._listen_once()
                self._missed = True
                self._tried.set()
                await asyncio.sleep(_RETRY_INTERVAL)
        finally:
            self._tried.set()

    async def _listen_once(self) -> None:
        try:
            async with self._bus.subscribe(self._channel) as messages:
                self._tried.set()
                if self._missed:
                    self._tell_gap()
                async for message in messages:
                    if message is None:
                        self._tell_gap()
                    elif message[:_MARK] not in self._delivered:
                        await self._deliver(message)
        except UnavailableError as error:
            logger.warning("a room cannot be heard, trying again: %s", error)
        except Exception:
            logger.exception("a room cannot be heard, trying again")

    def _tell_gap(self) -> None:
        for socket in tuple(self.members):
            socket.tell_gap()
