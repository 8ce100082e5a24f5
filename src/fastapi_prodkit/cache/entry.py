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
from typing import NamedTuple

__all__ = ["STAMP_SIZE", "Entry"]

STAMP_SIZE = 12
_HEAD = struct.Struct("<4sIBHddfHI")  # magic, size of all but the body, flags, status, times, sizes
_START = struct.Struct("<4sI")
_MAGIC = b"fpk4"
_RETURNED_RESPONSE = 1
_PASS = 2
_COMPRESSED = 4
_Pairs = tuple[tuple[bytes, bytes], ...]
_SHORT = 2048  # bytes; what is longer is not held outside of the store's bounds


@dataclass(slots=True)
class Entry:
    """An answer and when it was made. Times are seconds of the wall clock."""

    body: bytes
    stamps: bytes
    created: float
    expires: float
    cost: float
    status: int = 200
    headers: _Pairs = ()
    extra: _Pairs = ()
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
            _HEAD.size + len(self.stamps) + len(fields),
            flags,
            self.status,
            self.created,
            self.expires,
            self.cost,
            len(self.stamps),
            len(body),
        )
        return b"".join((head, self.stamps, fields, body))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Entry | None:
        """The entry, or `None` for bytes that are none of ours."""
        try:
            magic, size = _START.unpack_from(raw)
            if magic != _MAGIC:
                return None
            read = _head if size <= _SHORT else _head.__wrapped__
            head = read(raw[:size])
            if len(raw) != size + head.length:
                return None
            body = raw[size:]
            if head.is_compressed:
                body = zlib.decompress(body)
        except (struct.error, ValueError, zlib.error):
            return None
        return cls(body, *head.rest)


class _Head(NamedTuple):
    """What comes before the body.

    :param length: of the body, in bytes.
    :param rest: what else an entry is made of.
    """

    length: int
    is_compressed: bool
    rest: tuple[bytes, float, float, float, int, _Pairs, _Pairs, tuple[bytes, ...], bool, bool]


@lru_cache(maxsize=4096)
def _head(raw: bytes) -> _Head:
    """
    :raises ValueError: for bytes that are none of ours.
    :raises struct.error: likewise.
    """
    _, _, flags, status, created, expires, cost, stamps, length = _HEAD.unpack_from(raw)
    if not created <= expires < math.inf:
        raise ValueError(f"an entry of {created}, until {expires}")
    start = _HEAD.size + stamps
    headers, extra, hidden = raw[start:].split(b"\r")
    return _Head(
        length,
        bool(flags & _COMPRESSED),
        (
            raw[_HEAD.size : start],
            created,
            expires,
            cost,
            status,
            _pairs(headers),
            _pairs(extra),
            tuple(hidden.split(b"\n")) if hidden else (),
            bool(flags & _RETURNED_RESPONSE),
            bool(flags & _PASS),
        ),
    )


def _packed(fields: Iterable[Iterable[bytes]]) -> bytes:
    """Header fields in one: a line break is what no field can hold (RFC 9110 section 5.5)."""
    return b"\n".join(chain.from_iterable(fields))


def _pairs(packed: bytes) -> _Pairs:
    parts = packed.split(b"\n") if packed else []
    return tuple(zip(parts[::2], parts[1::2], strict=True))
