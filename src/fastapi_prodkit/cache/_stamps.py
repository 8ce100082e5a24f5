"""Invalidation without lists.

A tag is a key that holds a random stamp. An entry carries the stamps that its tags had *before* it was
computed, and is valid only while they are the same; so an invalidation is one write, whatever the number of
entries, and what was being computed meanwhile is invalid too. A stamp that the store forgot is a new one:
forgetting can only invalidate.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import lru_cache

from ..typing import Store
from ._entry import STAMP_SIZE
from ._identity import digest

__all__ = ["Stamps", "stamp_key"]

_DAY = 86400.0


@lru_cache(maxsize=4096)
def stamp_key(namespace: str, kind: str, *parts: str) -> str:
    return f"cache:stamp:{digest((namespace, kind, *parts))}"


class Stamps:
    """Reads are the engine's, in one round trip with the entry; here are the writes.

    :param lifetime: seconds that a stamp is held at least; it should be well above that of the entries.
    """

    def __init__(self, store: Store, *, lifetime: float = 30 * _DAY) -> None:
        self._store = store
        self._lifetime = lifetime

    async def fill(self, keys: Sequence[str], held: Sequence[bytes | None]) -> tuple[bytes, ...]:
        """Give a stamp to each key that has none; return all, as they are now."""
        if None not in held:
            return tuple(held)  # type: ignore[arg-type]  # no None in it

        async def one(key: str, stamp: bytes | None) -> bytes:
            if stamp is not None:
                return stamp
            return await self._store.add(key, _fresh(), ttl=self._lifetime)

        return tuple(await asyncio.gather(*map(one, keys, held)))

    async def renew(self, keys: Sequence[str]) -> None:
        """Invalidate everything that carries one of them."""
        await asyncio.gather(*(self._store.set(key, _fresh(), ttl=self._lifetime) for key in keys))


def _fresh() -> bytes:
    return os.urandom(STAMP_SIZE)
