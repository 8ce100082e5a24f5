"""A store that tells what changed of what was read from it, by the server's client-side caching."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Self

from .store import RedisStore
from .url import wire

__all__ = ["TrackedRedisStore"]


class TrackedRedisStore(RedisStore):
    """A `Store` on connections of its own, on which the server reports changes (RESP3, CLIENT TRACKING).

    The report of a change comes on the same connection as the replies and in order with them: a reply that
    was read after a change never comes before its report.

    :param changed: called with keys that were read here and have changed since.
    :param lost: called when reports may be missing: the connection is gone, or everything was flushed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout: float,
        heartbeat: float,
        changed: Callable[[Iterable[str]], None],
        lost: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._lost = lost
        tracked = wire(
            url,
            protocol=3,
            timeout=timeout,
            purpose="tracked reads",
            heartbeat=heartbeat,
            greeting=(("CLIENT", "TRACKING", "ON"),),
            on_push=self._hear,
            on_lost=lost,
        )
        super().__init__(tracked, prefix=prefix)

    async def __aenter__(self) -> Self:
        await self._wire.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._wire.close()

    async def read(self, *keys: str) -> list[tuple[bytes | None, float]]:
        """The value of each key, and the seconds that are left of its lifetime."""
        commands = [(name, self._key(key)) for key in keys for name in ("GET", "PTTL")]
        replies = await self._wire.many(*commands)
        values, lifetimes = replies[::2], replies[1::2]
        return [(value, _seconds(left)) for value, left in zip(values, lifetimes, strict=True)]

    def _hear(self, message: Any) -> None:
        keys = message[1]
        if keys is None:
            self._lost()
        else:
            self._changed([key.decode("utf-8", "surrogatepass").removeprefix(self._prefix) for key in keys])


def _seconds(milliseconds: int) -> float:
    return math.inf if milliseconds < 0 else milliseconds / 1000
