"""Entered in order, left in reverse, none skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from ..errors import ConfigurationError, ProdkitError
from ..typing import Drainable

__all__ = ["Stack", "StartTimeoutError"]


class StartTimeoutError(ProdkitError, TimeoutError):
    """A resource did not start in time; the message names it."""


class Stack:
    """The context managers that are open, each with the name by which an error calls it.

    :param stop_timeout: seconds that one of them may take to close.
    """

    def __init__(self, *, stop_timeout: float) -> None:
        self._stop_timeout = stop_timeout
        self._entered: list[tuple[str, AbstractAsyncContextManager[Any]]] = []

    async def enter(self, name: str, manager: AbstractAsyncContextManager[Any], *, timeout: float) -> Any:
        """Enter `manager`; return what it gives.

        :raises StartTimeoutError: if it takes longer than `timeout` seconds.
        :raises ConfigurationError: if it is none: what a function makes is known when it is called.
        """
        if not hasattr(manager, "__aenter__"):
            raise ConfigurationError(
                f"the resource {name} cannot be entered: its function returned a {type(manager).__name__}; "
                "write an async generator function that yields it, or return an async context manager"
            )
        try:
            async with asyncio.timeout(timeout) as limit:
                value = await manager.__aenter__()
        except TimeoutError as error:
            if not limit.expired():
                error.add_note(f"while the resource {name} started")
                raise
            raise StartTimeoutError(f"the resource {name} did not start within {timeout:g} s") from error
        except BaseException as error:
            error.add_note(f"while the resource {name} started")
            raise
        self._entered.append((name, manager))
        return value

    async def drain(self) -> list[BaseException]:
        """Let everything that holds work finish it, the last entered first, while all is still open."""
        holders = [(name, each) for name, each in reversed(self._entered) if isinstance(each, Drainable)]
        return [error for name, each in holders for error in await _attempt(name, each.drain)]

    async def close(self) -> list[BaseException]:
        """Leave all of them in reverse, whatever any of them raises.

        They are left as after a clean run: an error elsewhere is not theirs, and thrown into a `yield`
        without `finally` it would skip the clean-up below.
        """
        errors: list[BaseException] = []
        while self._entered:
            name, manager = self._entered.pop()

            async def leave(manager: AbstractAsyncContextManager[Any] = manager) -> None:
                async with asyncio.timeout(self._stop_timeout):
                    await manager.__aexit__(None, None, None)

            errors += await _attempt(name, leave)
        return errors


async def _attempt(name: str, step: Callable[[], Awaitable[None]]) -> list[BaseException]:
    try:
        await step()
    except BaseException as error:
        error.add_note(f"while the resource {name} closed")
        return [error]
    return []
