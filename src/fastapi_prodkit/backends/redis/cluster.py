"""A cluster of servers: one link to each primary, and the map of which of them holds which key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from ...errors import ConfigurationError, UnavailableError
from .calls import unreachable
from .link import Command, Dial, Link

__all__ = ["ClusterLink"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")

Address = tuple[str, int]

_SLOTS = 16384
_HOPS = 5  # redirections that one command follows


class ClusterLink:
    """Sends each command to the primary that holds its key; learns the map anew when it changed.

    :param seeds: where to ask first.
    :param dial: makes a fresh, unconnected connection to `host=` and `port=`.
    :param link: makes the link to a primary from what dials it.
    :param on_change: called when keys have moved.
    :param interval: seconds between two looks at the map while a primary is away.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        dial: Callable[..., Coroutine[Any, Any, AbstractConnection]],
        link: Callable[[Dial], Link],
        *,
        on_change: Callable[[], None] | None = None,
        interval: float = 0.25,
    ) -> None:
        self._seeds = list(seeds)
        self._dial = dial
        self._make = link
        self._on_change = on_change
        self._interval = interval
        self._links: dict[Address, Link] = {}
        self._owners: list[Address] = []
        self._stale = asyncio.Event()
        self._connecting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._task is not None

    async def open(self) -> None:
        """Connect and learn the map, or go on trying in the background.

        :raises ConfigurationError: if a server is there and refuses the credentials.
        """
        self._stale, self._connecting = asyncio.Event(), asyncio.Lock()
        try:
            await self._connect(self._seeds)
            with suppress(UnavailableError):
                await self._learn()
        except ConfigurationError:
            await self.close()
            raise
        self._task = asyncio.create_task(self._watch(), name="prodkit-redis-cluster")

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        links, self._links, self._owners = self._links, {}, []
        await asyncio.gather(*(link.close() for link in links.values()))

    async def dial(self, **options: Any) -> AbstractConnection:
        """A fresh connection to any server of the cluster: each hears what any of them publishes."""
        address = next((each for each, link in self._links.items() if link.is_up), None)
        if address is None:  # each of them in turn, attempt after attempt
            address = self._seeds[0]
            self._seeds = [*self._seeds[1:], address]
        return await self._to(address)(**options)

    async def call(self, *command: Any) -> Any:
        """The reply to one command.

        :raises UnavailableError: if the key's primary is away, late, or refuses.
        """
        return (await self._send(self._holder(command), [command]))[0]

    async def many(self, *commands: Command) -> list[Any]:
        """The replies to several commands, those for one primary together.

        :raises UnavailableError: as `call`, for any command that fails.
        """
        shares: dict[Address, list[int]] = {}
        for index, command in enumerate(commands):
            shares.setdefault(self._holder(command), []).append(index)
        sending = (
            self._send(address, [commands[index] for index in share]) for address, share in shares.items()
        )
        replies: list[Any] = [None] * len(commands)
        for share, answers in zip(shares.values(), await asyncio.gather(*sending), strict=True):
            for index, answer in zip(share, answers, strict=True):
                replies[index] = answer
        return replies

    def _holder(self, command: Command) -> Address:
        if not self.is_open:
            raise unreachable(is_open=False)
        if not self._owners:
            self._stale.set()
            raise UnavailableError("no server of the Redis cluster answers")
        key = _key(command)
        if key is None:
            return next((each for each, link in self._links.items() if link.is_up), self._owners[0])
        return self._owners[key_slot(key)]

    async def _send(self, address: Address, commands: list[Command]) -> list[Any]:
        """Follow redirections until somebody answers all of them."""
        asking: list[Command] = []
        for _ in range(_HOPS):
            try:
                link = self._links.get(address) or await self._join(address)
                return (await link.many(*asking, *commands))[len(asking) :]
            except UnavailableError:
                self._stale.set()
                raise
            except ConfigurationError as error:  # of one node; the app is up and stays so
                self._stale.set()
                raise UnavailableError(f"a node of the Redis cluster: {error}") from error
            except AskError as error:
                if len(commands) > 1:
                    return list(await asyncio.gather(*(self.call(*command) for command in commands)))
                moved = isinstance(error, MovedError)
                if moved:
                    self._stale.set()
                address = (error.host or address[0], error.port)
                asking = [] if moved else [("ASKING",)]
        raise UnavailableError("the Redis cluster sends a command in circles")

    async def _join(self, address: Address) -> Link:
        await self._connect([address])
        return self._links[address]

    async def _connect(self, addresses: Iterable[Address]) -> None:
        """Have an open link to each.

        :raises ConfigurationError: if one is there and refuses the credentials.
        """
        async with self._connecting:
            new = {each: self._make(self._to(each)) for each in addresses if each not in self._links}
            opened = await asyncio.gather(*(link.open() for link in new.values()), return_exceptions=True)
            for (address, link), failure in zip(new.items(), opened, strict=True):
                if failure is None:
                    self._links[address] = link
            for failure in opened:
                if failure is not None:
                    raise failure

    def _to(self, address: Address) -> Dial:
        host, port = address
        return partial(self._dial, host=host, port=port)

    async def _watch(self) -> None:
        """Learn the map anew when a command met a sign that it changed, and until every primary is up."""
        while True:
            if self._owners and all(link.is_up for link in self._links.values()):
                await self._stale.wait()
            else:
                await asyncio.sleep(self._interval)
            self._stale.clear()
            try:
                await self._learn()
            except UnavailableError:
                await self._connect(self._seeds)
            except Exception:
                logger.exception("could not read the map of the Redis cluster")
                await asyncio.sleep(self._interval)

    async def _learn(self) -> None:
        owners = await self._ask()
        await self._connect(set(owners))
        if owners != self._owners:
            self._owners = owners
            if self._on_change is not None:
                self._on_change()
        gone = [address for address in self._links if address not in owners]
        await asyncio.gather(*(self._links.pop(address).close() for address in gone))

    async def _ask(self) -> list[Address]:
        """The address of the primary of each slot, from the first server that answers."""
        for (host, _), link in list(self._links.items()):
            if link.is_up:
                with suppress(UnavailableError):
                    return _owners(await link.call("CLUSTER", "SLOTS"), host)
        raise UnavailableError("no server of the Redis cluster answers")


def _owners(ranges: list[Any], asked: str) -> list[Address]:
    owners: list[Address] = [("", 0)] * _SLOTS
    for first, last, primary, *_ in ranges:
        host = (primary[0] or b"").decode()
        address = (asked if host in ("", "?") else host, int(primary[1]))
        owners[first : last + 1] = [address] * (last + 1 - first)
    if ("", 0) in owners:
        raise UnavailableError("the Redis cluster does not cover all its slots")
    return owners


def _key(command: Command) -> bytes | None:
    """The first key of a command as this package writes them."""
    name = command[0]
    if name in ("EVAL", "EVALSHA"):
        key = command[3] if int(command[2]) > 0 else None
    elif name in ("PUBLISH", "PING", "TIME", "CLUSTER"):
        key = None
    else:
        key = command[1]
    return key.encode() if isinstance(key, str) else key
