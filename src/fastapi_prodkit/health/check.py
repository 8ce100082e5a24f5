"""One named question to something that the app needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Check", "CheckFunction"]

CheckFunction = Callable[[], Awaitable[object]]

logger = logging.getLogger("fastapi_prodkit.health")


class Check:
    """Asks at most once at a time: probes that come meanwhile share the answer.

    :param ask: raises or returns `False` when the thing is not well.
    :param timeout: seconds after which it counts as not well.
    """

    def __init__(self, name: str, ask: CheckFunction, *, timeout: float) -> None:
        self.name = name
        self._ask = ask
        self._timeout = timeout
        self._asking: asyncio.Task[str] | None = None
        self._last = "pass"

    async def run(self) -> str:
        """`pass`, `fail` or `timeout`; within the timeout, even if the function ignores its cancellation."""
        asking = self._asking
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking = asyncio.create_task(self._answer(), name=f"prodkit-check-{self.name}")
        done, _ = await asyncio.wait({asking}, timeout=self._timeout + 0.05)
        result = asking.result() if done and not asking.cancelled() else "timeout"
        self._tell(result)
        return result

    async def _answer(self) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                return "fail" if await self._ask() is False else "pass"
        except TimeoutError:
            return "timeout"
        except Exception as error:
            logger.debug("the check %s raised", self.name, exc_info=error)
            return "fail"

    def _tell(self, result: str) -> None:
        """Log a change, not every probe."""
        if result != self._last:
            self._last = result
            level = logging.INFO if result == "pass" else logging.WARNING
            logger.log(level, "the check %s says: %s", self.name, result)
