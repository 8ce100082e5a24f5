"""A cluster of servers: the client library finds the node of each key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from ...errors import ConfigurationError, UnavailableError
from .link import unavailable

__all__ = ["ClusterLink"]


class ClusterLink:
    """Sends each command to the node that holds its key.

    :param connect: makes the cluster client.
    :param timeout: seconds that a command may take.
    :param pause: seconds during which calls fail at once after one that found the cluster away.
    """

    def __init__(self, connect: Callable[[], RedisCluster], *, timeout: float, pause: float = 0.5) -> None:
        self._connect = connect
        self._timeout = timeout
        self._pause = pause
        self._client: RedisCluster | None = None
        self._away_until = 0.0

    async def open(self) -> None:
        self._client = self._connect()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def call(self, *command: Any) -> Any:
        """The reply to one command.

        :raises UnavailableError: if the cluster is away, the reply is late, or a server refuses.
        """
        if self._client is None:
            raise ConfigurationError(
                "the Redis backend is not open: hand it to Resources(backend), or use `async with backend:`"
            )
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            raise UnavailableError("the Redis cluster is away")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._client.execute_command(*command)
        except NoScriptError:
            raise
        except (RedisError, RedisClusterException, OSError) as error:
            self._away_until = loop.time() + self._pause
            raise unavailable(error) from error
