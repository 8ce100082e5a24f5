"""Telling one socket that it may have missed messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocketDisconnect

from ..errors import UnavailableError

__all__ = ["GapCalls"]

logger = logging.getLogger("fastapi_prodkit.websocket")


class GapCalls:
    """Runs `call`, one at a time, and once more for whatever happens meanwhile.

    :param failed: `call` raised something.
    """

    def __init__(self, call: Callable[[], Awaitable[None]], *, failed: Callable[[], None]) -> None:
        self._call = call
        self._failed = failed
        self._due = False
        self._task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        self._due = True
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._due:
                self._due = False
                try:
                    await self._call()
                except UnavailableError as error:
                    logger.warning("on_gap found a place away; it is called again with the bus: %s", error)
        except WebSocketDisconnect:
            pass
        except Exception:
            logger.exception("on_gap failed")
            self._failed()
        finally:
            self._task = None
