"""From a URL to the client objects of redis-py. Nothing connects here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import ConnectionPool, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from ...errors import ConfigurationError
from .cluster import ClusterLink
from .link import Link

__all__ = ["Wire", "connector", "wire"]


class Wire(Protocol):
    """Carries commands: one server's pipelined link, or a cluster's."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def call(self, *command: Any) -> Any: ...


def wire(url: str, *, timeout: float) -> Wire:
    """The wire for `url`.

    :raises ConfigurationError: if the URL cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme == "redis+cluster":
        nodes = _hosts(parts, default_port=6379)
        return ClusterLink(
            lambda: RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in nodes],
                socket_connect_timeout=1.0,
                protocol=2,
                **_credentials(parts),
            ),
            timeout=timeout,
        )
    return Link(connector(url), timeout=timeout)


def connector(url: str) -> Callable[[], AbstractConnection]:
    """Makes fresh connections to the server that `url` names; of a cluster, to its first node.

    :raises ConfigurationError: if the URL cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme == "redis+sentinel":
        return _sentinel_connector(parts)
    if parts.scheme == "redis+cluster":
        host, port = _hosts(parts, default_port=6379)[0]
        credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        url = f"redis://{credentials}{host}:{port}"
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "driver_info": None,  # its default reads package metadata from disk at every connect
    }
    try:
        pool = ConnectionPool.from_url(url, **options)
    except ValueError as error:
        raise ConfigurationError(f"cannot read the Redis URL: {error}") from error
    return lambda: pool.connection_class(**pool.connection_kwargs)


def _sentinel_connector(parts: SplitResult) -> Callable[[], AbstractConnection]:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigurationError(
            "a Sentinel URL names its service: redis+sentinel://host:26379,host:26379/service/0"
        )
    sentinel = Sentinel(
        _hosts(parts, default_port=26379),
        sentinel_kwargs={"protocol": 2, "socket_timeout": 0.5, "socket_connect_timeout": 0.5},
    )
    pool = SentinelConnectionPool(
        service, sentinel, db=int(database or 0), protocol=2, socket_timeout=None, **_credentials(parts)
    )
    return pool.make_connection


def _hosts(parts: SplitResult, *, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        host, colon, port = each.rpartition(":")
        if not colon:
            host, port = each, str(default_port)
        if not host or not port.isdigit():
            raise ConfigurationError(f"cannot read the host {each!r}: write host:port,host:port")
        hosts.append((host.strip("[]"), int(port)))
    return hosts


def _credentials(parts: SplitResult) -> dict[str, Any]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}
