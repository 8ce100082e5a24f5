"""From a URL to what dials its servers. Nothing connects here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from ...errors import ConfigurationError, UnavailableError
from .cluster import Address, ClusterLink
from .link import Command, Dial, Link

__all__ = ["Wire", "wire"]

_OURS: dict[str, Any] = {
    "decode_responses": False,
    "socket_timeout": None,  # with one, redis-py uses wait_for, which loses cancellations before 3.12
    "socket_connect_timeout": None,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "driver_info": None,  # its default reads package metadata from disk at every connect
}


_PATIENCE = 0.3  # seconds for one sentinel: several are asked in turn within one attempt to connect


class Wire(Protocol):
    """Carries commands: one server's pipelined link, or a cluster's links."""

    @property
    def is_open(self) -> bool: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def call(self, *command: Any) -> Any: ...
    async def many(self, *commands: Command) -> list[Any]: ...
    async def dial(self, **options: Any) -> AbstractConnection: ...


class _Parts(NamedTuple):
    kind: str
    tls: bool
    credentials: str
    hosts: list[Address]
    path: str
    query: list[tuple[str, str]]


def wire(url: str, *, protocol: int = 2, on_lost: Callable[[], None] | None = None, **options: Any) -> Wire:
    """The wire for `url`.

    :param on_lost: called whenever a connection is gone, and when keys of a cluster moved.
    :param options: for each `Link`.
    :raises ConfigurationError: if the URL cannot be read. Its message never repeats the URL: it may hold
        a password.
    """

    def link(dial: Dial, **more: Any) -> Link:
        return Link(dial, on_lost=on_lost, **options, **more)

    parts = _split(url)
    if parts.kind == "sentinel":
        return link(_sentinel(parts, protocol))
    pool = _pool(_single(parts) if parts.kind == "cluster" else url, protocol)

    async def dial(**options: Any) -> AbstractConnection:
        return pool.connection_class(**{**pool.connection_kwargs, **options})

    if parts.kind == "cluster":
        redirected = partial(link, passes=(NoScriptError, AskError))
        return ClusterLink(parts.hosts, dial, redirected, on_change=on_lost)
    return link(dial)


def _pool(url: str, protocol: int) -> ConnectionPool:
    """Reads the URL as redis-py does; its pool is used for its connection settings alone."""
    known = signature(AbstractConnection).parameters  # redis-py 8.0 has no notifications to be turned off
    ours = {name: value for name, value in _OURS.items() if name in known} | {"protocol": protocol}
    try:
        parts = urlsplit(url)
        if parts.scheme != "unix":
            int(parts.path.strip("/") or 0)  # redis-py takes the first database for what is no number
        query = urlencode([each for each in parse_qsl(parts.query) if each[0] not in ours])
        pool = ConnectionPool.from_url(parts._replace(query=query).geturl(), **ours)
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        option = str(error).rpartition("argument ")[2] or "one of its options"
        raise ConfigurationError(
            f"the Redis URL has an option that redis-py does not know: {option}"
        ) from None
    except ValueError:
        raise _unreadable() from None
    return pool


def _sentinel(parts: _Parts, protocol: int) -> Dial:
    """Asks the sentinels for the address of the primary before each connection."""
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigurationError(
            "a Sentinel URL names its service: redis+sentinel://host:26379,host:26379/service/0"
        )
    own = {"sentinel_username": "username", "sentinel_password": "password"}
    rest = [(name, value) for name, value in parts.query if name not in own]
    pool = _pool(_single(parts._replace(path=f"/{database}", query=rest)), protocol)
    settings = pool.connection_kwargs
    anonymous = {
        name: value for name, value in settings.items() if name not in ("username", "password", "db")
    }
    options = {**anonymous, **{own[name]: value for name, value in parts.query if name in own}}

    async def ask(host: str, port: int) -> Any:
        connection = pool.connection_class(**{**options, "host": host, "port": port})
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service, check_health=False)
            return await connection.read_response(timeout=math.inf)
        finally:
            await connection.disconnect(nowait=True)

    async def dial(**given: Any) -> AbstractConnection:
        for sentinel in parts.hosts:
            with suppress(RedisError, OSError):
                async with asyncio.timeout(_PATIENCE):
                    found = await ask(*sentinel)
                if found is not None:
                    address = {"host": found[0].decode(), "port": int(found[1])}
                    return pool.connection_class(**{**settings, **given, **address})
        raise UnavailableError(f"no Sentinel knows a primary of {service!r}")

    return dial


def _single(parts: _Parts) -> str:
    """The same URL with the first host alone, which redis-py can read."""
    host, port = parts.hosts[0]
    bracketed = f"[{host}]" if ":" in host else host
    scheme = "rediss" if parts.tls else "redis"
    query = f"?{urlencode(parts.query)}" if parts.query else ""
    return f"{scheme}://{parts.credentials}{bracketed}:{port}{parts.path}{query}"


def _split(url: str) -> _Parts:
    if not isinstance(url, str):  # such as None, from the environment
        raise _unreadable()
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable() from None
    scheme, _, kind = parts.scheme.partition("+")
    ports = {"sentinel": 26379, "cluster": 6379}
    credentials, at, _ = parts.netloc.rpartition("@")
    return _Parts(
        kind=kind,
        tls=scheme == "rediss",
        credentials=credentials + at,
        hosts=_hosts(parts, default_port=ports[kind]) if kind in ports else [],
        path=parts.path,
        query=parse_qsl(parts.query),
    )


def _hosts(parts: SplitResult, *, default_port: int) -> list[Address]:
    hosts: list[Address] = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        host, colon, port = each.rpartition(":")
        if not colon or each.endswith("]"):
            host, port = each, str(default_port)
        if not host or not port.isdigit():
            raise _unreadable()
        hosts.append((host.strip("[]"), int(port)))
    return hosts


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "cannot read the Redis URL: write redis://user:password@host:6379/0, several hosts as "
        "host:port,host:port after redis+sentinel:// or redis+cluster://, and percent-encode special "
        "characters in the password"
    )
