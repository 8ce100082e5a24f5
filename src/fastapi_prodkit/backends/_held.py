"""What a process holds, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol, TypeVar

__all__ = ["OVERHEAD", "Held"]

OVERHEAD = (
    320  # bytes that an entry costs beside its key and value: 275 to 310 on CPython 3.11, by tracemalloc
)


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


E = TypeVar("E", bound=_Sized)


class Held(OrderedDict[str, E]):
    """Entries by key, each with its `size`. Together they stay within `max_bytes`: the least recently used go
    first, and one that is larger is not kept. Who reads one says so by `move_to_end`.

    An entry that ended is dropped where it is met, or as one long unused: to keep them in the order of their
    ends makes a write ten times as dear.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.size = 0
        self._max_bytes = max_bytes

    def put(self, key: str, entry: E) -> None:
        self.drop(key)
        if entry.size > self._max_bytes:
            return
        self.size += entry.size
        while self.size > self._max_bytes:
            self.size -= self.popitem(last=False)[1].size
        self[key] = entry

    def drop(self, key: str) -> None:
        entry = self.pop(key, None)
        if entry is not None:
            self.size -= entry.size

    def clear(self) -> None:
        super().clear()
        self.size = 0
