"""A Redis-protocol server (Redis or Valkey, 7.0 or later): shared by every worker and machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from ..._arguments import count, function, seconds, text
from ..._sharing import Users
from ...errors import MissingExtraError

try:
    import redis  # noqa: F401 -- importing this module is the consent to the dependency
except ModuleNotFoundError as error:
    if error.name != "redis":
        raise
    raise MissingExtraError("redis", extra="redis") from error

from .bus import RedisBus
from .cluster import ClusterLink
from .counters import RedisCounters
from .store import RedisStore
from .tracked import TrackedRedisStore
from .url import wire

__all__ = ["RedisBackend", "RedisBus", "RedisCounters", "RedisStore", "TrackedRedisStore"]


class RedisBackend:
    """The three ports on a Redis-protocol server, over two connections per process.

    Nothing connects before it is entered, and a server that is away never stops an app from starting.

    :param url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`.
    :param prefix: goes before every key and channel, so that apps can share a server.
    :param timeout: seconds that the next reply may take before the server counts as away.
    :param max_pending: the most messages that a slow listener of the bus may be behind.
    :param clock: Unix time for the counters, in place of the server's own; for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "prodkit:",
        timeout: float = 0.1,
        max_pending: int = 1024,
        clock: Callable[[], float] | None = None,
    ) -> None:
        seconds("timeout", timeout)
        count("max_pending", max_pending)
        text("prefix", prefix)
        if clock is not None:
            function("clock", clock)
        self._tracked = partial(TrackedRedisStore, url, prefix=prefix, timeout=timeout)
        self._wire = wire(url, timeout=timeout)
        self.store = RedisStore(self._wire, prefix=prefix)
        self._users = Users("RedisBackend")
        self.bus = RedisBus(self._wire, prefix=prefix, max_pending=max_pending, timeout=timeout)
        self.counters = RedisCounters(
            self._wire,
            prefix=prefix,
            bus=self.bus,
            clustered=isinstance(self._wire, ClusterLink),
            clock=clock,
        )

    def tracked(
        self, *, changed: Callable[[Iterable[str]], None], lost: Callable[[], None], heartbeat: float = 1.0
    ) -> TrackedRedisStore:
        """The same store on connections of its own, on which the server reports what others change.

        :param changed: called with keys that were read there and have changed since.
        :param lost: called when reports may be missing.
        :param heartbeat: seconds between two signs of life asked of an idle server.
        """
        return self._tracked(changed=changed, lost=lost, heartbeat=heartbeat)

    async def __aenter__(self) -> Self:
        if self._users.enter():
            try:
                await asyncio.gather(self._wire.open(), self.bus.open())
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._users.leave():
            await self.counters.close()
            await self.bus.close()
            await self._wire.close()
