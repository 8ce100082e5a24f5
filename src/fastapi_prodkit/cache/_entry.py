"""One stored answer, as bytes: a fixed head, the stamps, the header fields, the body.

Nothing in it can run: it is read with `struct` and `json` alone. What cannot be read is no entry.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["STAMP_SIZE", "Entry"]

STAMP_SIZE = 12
_HEAD = struct.Struct("<4sBHddfHI")  # magic, flags, status, created, expires, cost, stamps, header size
_MAGIC = b"fpk1"
_RETURNED_RESPONSE = 1
_PASS = 2


@dataclass(slots=True)
class Entry:
    """An answer and when it was made. Times are seconds of the wall clock."""

    stamps: bytes
    created: float
    expires: float
    cost: float
    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    extra: tuple[tuple[bytes, bytes], ...] = ()
    hidden: tuple[bytes, ...] = ()
    returned_response: bool = False
    uncacheable: bool = False

    def to_bytes(self) -> bytes:
        fields = b""
        if self.headers or self.extra or self.hidden:
            text = [
                [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
                [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.extra],
                [name.decode("latin-1") for name in self.hidden],
            ]
            fields = json.dumps(text, separators=(",", ":")).encode()
        flags = _RETURNED_RESPONSE * self.returned_response | _PASS * self.uncacheable
        head = _HEAD.pack(
            _MAGIC,
            flags,
            self.status,
            self.created,
            self.expires,
            self.cost,
            len(self.stamps),
            len(fields),
        )
        return b"".join((head, self.stamps, fields, self.body))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Entry | None:
        """The entry, or `None` for bytes that are none of ours."""
        try:
            magic, flags, status, created, expires, cost, stamps, size = _HEAD.unpack_from(raw)
            if magic != _MAGIC:
                return None
            start = _HEAD.size + stamps
            headers, extra, hidden = _fields(raw[start : start + size])
        except (struct.error, ValueError, TypeError):
            return None
        return cls(
            raw[_HEAD.size : start],
            created,
            expires,
            cost,
            raw[start + size :],
            status,
            headers,
            extra,
            hidden,
            bool(flags & _RETURNED_RESPONSE),
            bool(flags & _PASS),
        )


_Pairs = tuple[tuple[bytes, bytes], ...]


@lru_cache(maxsize=4096)
def _fields(raw: bytes) -> tuple[_Pairs, _Pairs, tuple[bytes, ...]]:
    if not raw:
        return (), (), ()
    headers, extra, hidden = json.loads(raw)
    return _pairs(headers), _pairs(extra), tuple(name.encode("latin-1") for name in hidden)


def _pairs(fields: list[list[str]]) -> _Pairs:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
