"""Telling one socket that it may have missed messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.websockets import WebSocketDisconnect

from ..errors import UnavailableError

__all__ = ["GapCalls"]

logger = logging.getLogger("fastapi_prodkit.websocket")

_RETRY_INTERVALS = (0.5, 1.0, 2.0, 5.0)  # the last one again and again


class GapCalls:
    """Runs `call`, one at a time, once more for what happens meanwhile, and until it finds every place there.

    A bus that is heard again is no sign that the state can be read again, even where both are on one server.

    :param failed: `call` raised something.
    """

    def __init__(self, call: Callable[[], Awaitable[None]], *, failed: Callable[[], None]) -> None:
        self._call = call
        self._failed = failed
        self._due = asyncio.Event()
        self._attempt = 0
        self._task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        self._due.set()
        self._attempt = 0
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._due.is_set():
                self._due.clear()
                try:
                    await self._call()
                except UnavailableError as error:
                    if self._attempt == 0:
                        logger.warning("on_gap found a place away, trying again: %s", error)
                    self._attempt += 1
                    await self._pause(_RETRY_INTERVALS[min(self._attempt, len(_RETRY_INTERVALS)) - 1])
        except WebSocketDisconnect:
            pass
        except Exception:
            logger.exception("on_gap failed")
            self._failed()
        finally:
            self._task = None

    async def _pause(self, seconds: float) -> None:
        """Be due again after `seconds`, or as soon as something more was missed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._due.wait()
        self._due.set()
