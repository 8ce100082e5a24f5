"""Invalidation without lists.

A tag is a key that holds a random stamp. An entry carries the stamps that its tags had *before* it was
computed, and is valid only while they are the same; so an invalidation is one write, whatever the number of
entries, and what was being computed meanwhile is invalid too. A stamp that the store forgot is a new one:
forgetting can only invalidate.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ..errors import ConfigurationError, UnavailableError
from ..typing import Store
from .entry import STAMP_SIZE
from .identity import digest

__all__ = ["Stamps", "stamp_key"]

logger = logging.getLogger("fastapi_prodkit.cache")

_DAY = 86400.0
_RETRY = 0.25
_MAX_OWED = 10_000


_SHORT = 200  # characters


def stamp_key(namespace: str, kind: str, *parts: str) -> str:
    if sum(map(len, parts)) > _SHORT:  # what clients send is not held outside of the store's bounds
        return f"cache:stamp:{digest((namespace, kind, *parts))}"
    return _stamp_key(namespace, kind, *parts)


@lru_cache(maxsize=4096)
def _stamp_key(namespace: str, kind: str, *parts: str) -> str:
    return f"cache:stamp:{digest((namespace, kind, *parts))}"


class Stamps:
    """Reads are the engine's, in one round trip with the entry; here are the writes.

    :param everything: the stamp that every entry carries.
    :param spawn: runs a coroutine behind everything else.
    :param lifetime: seconds that a stamp is held at least; it should be well above that of the entries.
    :param at_once: whether calls to the store travel, so that several should go together.
    """

    def __init__(
        self,
        store: Store,
        *,
        everything: str,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        lifetime: float = 30 * _DAY,
        at_once: bool = True,
    ) -> None:
        self._store = store
        self._everything = everything
        self._spawn = spawn
        self._at_once = at_once
        self._owed: dict[str, int] = {}
        self._debts = 0
        self._is_paying = False
        self._lifetime = lifetime

    async def fill(self, keys: Sequence[str], held: Sequence[bytes | None]) -> tuple[bytes, ...]:
        """Give a stamp to each key that has none; return all, as they are now."""
        stamps = list(held)
        missing = [place for place, stamp in enumerate(held) if stamp is None]
        adding = [self._store.add(keys[place], _fresh(), ttl=self._lifetime) for place in missing]
        if self._at_once and len(adding) > 1:
            added = await asyncio.gather(*adding)
        else:
            added = [await each for each in adding]
        for place, stamp in zip(missing, added, strict=True):
            stamps[place] = stamp
        return tuple(stamps)  # type: ignore[arg-type]  # no None in it any more

    async def renew(self, keys: Sequence[str]) -> bool:
        """Invalidate everything that carries one of them.

        While the store is away that is owed: what is concerned counts as not there in this process, and the
        debt is paid as soon as the store is back.

        :return: whether it is done.
        """
        try:
            await self._renew(keys)
        except UnavailableError:
            self._owe(keys)
            self._see_to_it()
            return False
        return True

    def _owe(self, keys: Sequence[str]) -> None:
        """Note them, in bounded memory: of too many debts one is made, that of everything."""
        if not self._owed:
            logger.warning("an invalidation is owed until the store is back")
        if self._everything not in self._owed and len(self._owed) + len(keys) > _MAX_OWED:
            logger.warning("too many invalidations are owed: everything is invalidated instead")
            self._owed = {self._everything: 0}
        if self._everything in self._owed:
            keys = [self._everything]
        self._debts += 1
        self._owed.update(dict.fromkeys(keys, self._debts))

    def owes(self, keys: Sequence[str]) -> bool:
        """Whether the invalidation of one of them is not done yet."""
        if not self._owed:
            return False
        self._see_to_it()
        return any(key in self._owed for key in keys)

    def _see_to_it(self) -> None:
        """Have the debt paid; whoever was at it may have ended with its event loop."""
        if not self._is_paying:
            self._spawn(self._pay())

    async def _pay(self) -> None:
        if self._is_paying:
            return
        self._is_paying = True
        try:
            with suppress(ConfigurationError):  # the store was closed: later, when it is open again
                await self._pay_all()
        finally:
            self._is_paying = False

    async def _pay_all(self) -> None:
        while self._owed:
            await asyncio.sleep(_RETRY)
            paying = dict(self._owed)
            with suppress(UnavailableError):
                await self._renew(list(paying))
                for key, debt in paying.items():
                    if self._owed.get(key) == debt:  # not owed once more meanwhile
                        del self._owed[key]

    async def _renew(self, keys: Sequence[str]) -> None:
        await asyncio.gather(*(self._store.set(key, _fresh(), ttl=self._lifetime) for key in keys))


def _fresh() -> bytes:
    return os.urandom(STAMP_SIZE)
