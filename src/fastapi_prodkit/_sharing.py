"""What several apps of a process may share: the first opens it, the last one closes it."""

from __future__ import annotations

import asyncio
import os

from .errors import ConfigurationError

__all__ = ["Users"]


class Users:
    """Counts who uses an object that belongs to one event loop at a time.

    :param name: of the object, for an error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def enter(self) -> bool:
        """Whether this is the first one. Of a loop that has ended, or a process before a fork, none counts.

        :raises ConfigurationError: if it is used on another event loop that runs.
        """
        loop = asyncio.get_running_loop()
        if self._count and self._loop is loop:
            self._count += 1
            return False
        if self._count and self._loop is not None and self._loop.is_running() and self._pid == os.getpid():
            raise ConfigurationError(
                f"this {self._name} is open on another event loop: make one for each that runs at a time"
            )
        self._count, self._loop, self._pid = 1, loop, os.getpid()
        return True

    def leave(self) -> bool:
        """Whether that was the last one."""
        self._count -= 1
        return not self._count
