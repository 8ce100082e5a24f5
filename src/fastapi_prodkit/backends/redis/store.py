"""Bytes with a lifetime, in a Redis-protocol server (7.0 or later)."""

from __future__ import annotations

from .scripts import Script
from .url import Wire

__all__ = ["RedisStore"]

_LONGEST = 3e9  # seconds; a server refuses what ends too far from now

_RELEASE = Script(
    """
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
    return 0
    """
)


class RedisStore:
    """A `Store` on the server. Single keys only, so it works on a cluster too.

    :param wire: carries the commands.
    :param prefix: goes before every key.
    """

    def __init__(self, wire: Wire, *, prefix: str) -> None:
        self._wire = wire
        self._prefix = prefix

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    async def get(self, *keys: str) -> list[bytes | None]:
        if len(keys) == 1:
            return [await self._wire.call("GET", self._key(keys[0]))]
        return await self._wire.many(*(("GET", self._key(key)) for key in keys))

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        if ttl > 0:
            await self._wire.call("SET", self._key(key), value, "PX", _milliseconds(ttl))
        else:
            await self.delete(key)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        held: bytes | None = await self._wire.call(
            "SET", self._key(key), value, "PX", _milliseconds(ttl), "NX", "GET"
        )
        return value if held is None else held

    async def release(self, key: str, value: bytes) -> bool:
        return bool(await _RELEASE.run(self._wire, [self._key(key)], [value]))

    async def delete(self, *keys: str) -> None:
        await self._wire.many(*(("DEL", self._key(key)) for key in keys))

    def _key(self, key: str) -> bytes:
        return (self._prefix + key).encode("utf-8", "surrogatepass")


def _milliseconds(seconds: float) -> int:
    return max(1, round(min(seconds, _LONGEST) * 1000))
