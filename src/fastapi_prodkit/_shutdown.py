"""The word that the app is about to stop, for everything that would outlive it.

A server waits for open streams and sockets before it ends the lifespan: an idle one would hold it for ever.
`Resources` puts a `Shutdown` into the lifespan state, which every scope carries, and gives the word when the
signal arrives, before the server starts to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Scope

__all__ = ["STATE_KEY", "Shutdown"]

STATE_KEY = "fastapi_prodkit.shutdown"


class Shutdown:
    """Said once per start of an app; belongs to the event loop that the app runs on."""

    def __init__(self) -> None:
        self._begun = False
        self._listeners: dict[object, Callable[[], None]] = {}

    @staticmethod
    def of(scope: Scope) -> Shutdown | None:
        """The one that this scope was given, if the app was started with `Resources`."""
        found = scope.get("state", {}).get(STATE_KEY)
        return found if isinstance(found, Shutdown) else None

    @property
    def begun(self) -> bool:
        return self._begun

    def begin(self) -> None:
        """Tell everyone who listens. The second time does nothing."""
        if self._begun:
            return
        self._begun = True
        for listener in list(self._listeners.values()):
            listener()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when it begins, soon if it has begun."""
        token = object()
        self._listeners[token] = listener
        if self._begun:
            asyncio.get_running_loop().call_soon(listener)
        try:
            yield
        finally:
            del self._listeners[token]
