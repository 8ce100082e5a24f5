"""One stored answer, as bytes: a fixed head, the stamps, the header fields, the body.

Nothing in it can run: it is read by `struct` and by splitting. What cannot be read is no entry.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

__all__ = ["STAMP_SIZE", "Entry"]

STAMP_SIZE = 12
_HEAD = struct.Struct("<4sBHddfHII")  # magic, flags, status, created, expires, cost, sizes of the rest
_MAGIC = b"fpk3"
_RETURNED_RESPONSE = 1
_PASS = 2
_COMPRESSED = 4


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

    def to_bytes(self, *, compress_above: float = math.inf) -> bytes:
        """
        :param compress_above: the size of a body from which on it is compressed, in bytes.
        """
        body, packed = self.body, len(self.body) > compress_above
        if packed:
            body = zlib.compress(body, 1)
        fields = b"\r".join(map(_packed, (self.headers, self.extra, [self.hidden])))
        flags = _RETURNED_RESPONSE * self.returned_response | _PASS * self.uncacheable | _COMPRESSED * packed
        head = _HEAD.pack(
            _MAGIC,
            flags,
            self.status,
            self.created,
            self.expires,
            self.cost,
            len(self.stamps),
            len(fields),
            len(body),
        )
        return b"".join((head, self.stamps, fields, body))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Entry | None:
        """The entry, or `None` for bytes that are none of ours."""
        try:
            magic, flags, status, created, expires, cost, stamps, size, length = _HEAD.unpack_from(raw)
            if magic != _MAGIC or not created <= expires < math.inf:
                return None
            start = _HEAD.size + stamps
            fields = _fields if size <= _SHORT else _fields.__wrapped__
            headers, extra, hidden = fields(raw[start : start + size])
            body = raw[start + size :]
            if len(body) != length:
                return None
            if flags & _COMPRESSED:
                body = zlib.decompress(body)
        except (struct.error, ValueError, zlib.error):
            return None
        return cls(
            raw[_HEAD.size : start],
            created,
            expires,
            cost,
            body,
            status,
            headers,
            extra,
            hidden,
            bool(flags & _RETURNED_RESPONSE),
            bool(flags & _PASS),
        )


_SHORT = 2048  # bytes; what is longer is not held outside of the store's bounds
_Pairs = tuple[tuple[bytes, bytes], ...]


def _packed(fields: Iterable[Iterable[bytes]]) -> bytes:
    """Header fields in one: a line break is what no field can hold (RFC 9110 section 5.5)."""
    return b"\n".join(chain.from_iterable(fields))


@lru_cache(maxsize=4096)
def _fields(raw: bytes) -> tuple[_Pairs, _Pairs, tuple[bytes, ...]]:
    headers, extra, hidden = raw.split(b"\r")
    return _pairs(headers), _pairs(extra), tuple(hidden.split(b"\n")) if hidden else ()


def _pairs(packed: bytes) -> _Pairs:
    parts = packed.split(b"\n") if packed else []
    return tuple(zip(parts[::2], parts[1::2], strict=True))
