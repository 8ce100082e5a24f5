"""The ports: what a component needs of the place where it keeps things.

A backend is one class per port. Any class with these methods is one; nothing has to be inherited.
`fastapi_prodkit.testing` ships a contract suite for each port.

Every method may raise `UnavailableError` when the place does not answer in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

__all__ = ["Backend", "Bus", "Store"]


@runtime_checkable
class Store(Protocol):
    """Bytes with a lifetime in seconds. A store may forget any key early, but never invents one."""

    async def get(self, *keys: str) -> list[bytes | None]:
        """The value of each key, `None` where there is none, in one round trip."""
        ...

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        """Hold `value` for `ttl` seconds, in place of what was there."""
        ...

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        """Hold `value` unless the key is held already; return what the key holds now.

        Atomic: of many callers exactly one gets its own value back. It is what a lease is made of.
        """
        ...

    async def release(self, key: str, value: bytes) -> bool:
        """Delete the key if it still holds `value`; whether it did. Atomic."""
        ...

    async def delete(self, *keys: str) -> None:
        """Forget the keys."""
        ...


@runtime_checkable
class Bus(Protocol):
    """Messages to everyone who listens now, in every process."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Hand `message` to every subscriber of `channel`."""
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[bytes | None]]:
        """Listen to `channel`. Once entered, every later `publish` that succeeds is delivered.

        The iterator yields messages in their order, and `None` where some may have been lost: the
        connection was down, or this listener was too slow. It never ends by itself.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """One place with all the ports, opened by `async with`."""

    @property
    def store(self) -> Store: ...
    @property
    def bus(self) -> Bus: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None: ...
