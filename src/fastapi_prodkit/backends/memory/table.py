"""A bounded table of counts."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any

__all__ = ["CountTable"]

_SHARD = 1024  # keys at least: growing or sweeping one shard holds up the event loop for about a millisecond


class CountTable:
    """Counts by key, in shards so that no single operation takes long.

    A state is a complex number (see `Gcra`: when it is back at zero, and a negative part while it is at its
    limit), or anything else, which is then held in a tuple with both of these: when, and whether.

    :param max_keys: the most it holds.
    """

    def __init__(self, max_keys: int) -> None:
        shards = 1 << max(0, (max_keys // _SHARD).bit_length() - 1)
        self._mask = shards - 1
        self._room = max_keys // shards
        self._shards: list[dict[str, Any]] = [{} for _ in range(shards)]
        self._crowded_until = [float("-inf")] * shards

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def get(self, key: str) -> Any:
        state = self.shard(key).get(key)
        return state[0] if type(state) is tuple else state

    def shard(self, key: str) -> dict[str, Any]:
        """The part of the table where a key is, for who reads and writes it there."""
        return self._shards[hash(key) & self._mask]

    def pop(self, key: str) -> None:
        self._shards[hash(key) & self._mask].pop(key, None)

    def place(self, key: str, shared: str, now: float) -> str:
        """Where a key that is not held goes: to a place of its own, or where every place is taken by a
        count at its limit, to the one that such newcomers share."""
        index = hash(key) & self._mask
        shard = self._shards[index]
        if len(shard) < self._room:
            return key
        if now >= self._crowded_until[index]:
            self._sweep(shard, now)
            if len(shard) < self._room:
                return key
            self._crowded_until[index] = min(_until(state) for state in shard.values())
        return shared

    def _sweep(self, shard: dict[str, Any], now: float) -> None:
        """Forget what is back at zero; where that is too little, what is nearest to it."""
        over: list[str] = []
        spare: list[tuple[float, str]] = []
        for key, state in shard.items():
            if type(state) is complex:
                until, full = state.real, state.imag < 0
            else:
                _, until, full = state
            if until <= now:
                over.append(key)
            elif not full:
                spare.append((until, key))
        surplus = len(shard) - len(over) - (self._room - 1) * 15 // 16
        for key in [*over, *(key for _, key in nsmallest(surplus, spare))]:
            del shard[key]


def _until(state: Any) -> float:
    until: float = state.real if type(state) is complex else state[1]
    return until
