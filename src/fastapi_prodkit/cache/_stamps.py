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
    :param at_once: whether calls to the store travel, so that several should go together.
    """

    def __init__(self, store: Store, *, lifetime: float = 30 * _DAY, at_once: bool = True) -> None:
        self._store = store
        self._at_once = at_once
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

    async def renew(self, keys: Sequence[str]) -> None:
        """Invalidate everything that carries one of them."""
        await asyncio.gather(*(self._store.set(key, _fresh(), ttl=self._lifetime) for key in keys))


def _fresh() -> bytes:
    return os.urandom(STAMP_SIZE)
