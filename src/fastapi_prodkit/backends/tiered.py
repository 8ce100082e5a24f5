"""Two levels: this process's memory in front of a shared server, kept coherent by the server's reports."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from .._arguments import count, function, seconds
from ..errors import ConfigurationError, UnavailableError
from ..typing import Backend, Bus, Counters, Store
from ._held import OVERHEAD, Held

__all__ = ["TieredBackend", "TieredStore", "Tracked", "Tracking"]


class Tracked(Store, Protocol):
    """A store that reports what changed of what was read from it."""

    async def read(self, *keys: str) -> list[tuple[bytes | None, float]]:
        """The value of each key, and the seconds that are left of its lifetime."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None: ...


class Tracking(Backend, Protocol):
    """A backend whose server reports changes: `RedisBackend`."""

    def tracked(
        self, *, changed: Callable[[Iterable[str]], None], lost: Callable[[], None], heartbeat: float
    ) -> Tracked: ...


class _Entry(NamedTuple):
    value: bytes | None  # that there is nothing is worth knowing too
    epoch: int
    recheck: float
    expires: float
    size: int


class TieredStore:
    """A `Store` that answers from this process where it can; what it writes always goes to the server.

    :param track: makes the store behind it from the two callbacks for changes.
    :param max_bytes: the most that this level holds; the least recently used go first.
    :param recheck: seconds after which an entry is asked for again even though no change was reported.
    :param when_away: seconds for which entries still serve after the connection was lost, within their
        lifetime, where the server cannot answer.
    :param clock: seconds, never backwards.
    """

    def __init__(
        self,
        track: Callable[[Callable[[Iterable[str]], None], Callable[[], None]], Tracked],
        *,
        max_bytes: int,
        recheck: float,
        when_away: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.far = track(self._changed, self._lost)
        self._recheck = recheck
        self._when_away = when_away
        self._clock = clock
        self._entries: Held[_Entry] = Held(max_bytes)
        self._epoch = 0  # grows whenever reports may be missing: entries of an earlier one are hearsay
        self._lost_at = 0.0
        self._changes = 0
        self._reading: Counter[str] = Counter()
        self._changed_at: dict[str, int] = {}  # of the keys that are being read now

    @property
    def is_open(self) -> bool:
        return getattr(self.far, "is_open", True)

    async def get(self, *keys: str) -> list[bytes | None]:
        now = self._clock()
        found: list[bytes | None] = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is None or entry.epoch != self._epoch or entry.recheck <= now:
                return await self._get(keys, now)
            self._entries.move_to_end(key)
            found.append(entry.value)
        return found

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        self._changed((key,))
        try:
            await self.far.set(key, value, ttl=ttl)
        finally:
            self._changed((key,))

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        self._changed((key,))
        try:
            return await self.far.add(key, value, ttl=ttl)
        finally:
            self._changed((key,))

    async def release(self, key: str, value: bytes) -> bool:
        self._changed((key,))
        try:
            return await self.far.release(key, value)
        finally:
            self._changed((key,))

    async def delete(self, *keys: str) -> None:
        self._changed(keys)
        try:
            await self.far.delete(*keys)
        finally:
            self._changed(keys)

    def clear(self) -> None:
        """Forget what this process holds; the server keeps its own."""
        self._entries.clear()

    async def _get(self, keys: tuple[str, ...], now: float) -> list[bytes | None]:
        """Ask for what is missing, or recall what was known when the connection was lost."""
        fresh = {key: entry.value for key in keys if (entry := self._fresh(key, now)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in fresh]
        try:
            fresh.update(await self._fetch(missing, now))
        except UnavailableError:
            for key in missing:
                hearsay = self._entries.get(key)
                if hearsay is None or not self._still_serves(hearsay, now):
                    raise
                fresh[key] = hearsay.value
        return [fresh[key] for key in keys]

    async def _fetch(self, keys: list[str], now: float) -> dict[str, bytes | None]:
        epoch, changes = self._epoch, self._changes
        self._reading.update(keys)
        try:
            found = dict(zip(keys, await self.far.read(*keys), strict=True))
            for key, (value, left) in found.items():
                if epoch == self._epoch and self._changed_at.get(key, 0) <= changes:
                    self._keep(key, value, now, left)
        finally:
            for key in keys:
                self._reading[key] -= 1
                if not self._reading[key]:
                    del self._reading[key]
                    self._changed_at.pop(key, None)
        return {key: value for key, (value, _) in found.items()}

    def _fresh(self, key: str, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.epoch == self._epoch and entry.recheck > now else None

    def _still_serves(self, entry: _Entry, now: float) -> bool:
        """Whether an entry was true until the connection was lost, and that is not too long ago."""
        known = entry.epoch == self._epoch or (
            entry.epoch == self._epoch - 1 and now < self._lost_at + self._when_away
        )
        return self._when_away > 0 and known and now < entry.expires

    def _keep(self, key: str, value: bytes | None, now: float, left: float) -> None:
        size = len(key) + len(value or b"") + OVERHEAD
        expires = now + left
        entry = _Entry(value, self._epoch, min(expires, now + self._recheck), expires, size)
        self._entries.put(key, entry)

    def _changed(self, keys: Iterable[str]) -> None:
        self._changes += 1
        for key in keys:
            self._entries.drop(key)
            if key in self._reading:
                self._changed_at[key] = self._changes

    def _lost(self) -> None:
        self._epoch += 1
        self._lost_at = self._clock()


class TieredBackend:
    """A backend whose store has a level in this process in front of the server's.

    Counters and bus are the server's own.

    :param backend: where everything is kept: a `RedisBackend`.
    :param max_bytes: the most that the level in this process holds.
    :param recheck: seconds after which an entry is asked for again even though no change was reported.
    :param when_away: seconds for which entries still serve once the server cannot be reached, within their
        lifetime; 0 for never, `math.inf` for as long as they live.
    :param heartbeat: seconds between two signs of life asked of an idle server.
    """

    def __init__(
        self,
        backend: Tracking,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        recheck: float = 60.0,
        when_away: float = 60.0,
        heartbeat: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not hasattr(backend, "tracked"):
            raise ConfigurationError(
                f"{type(backend).__name__} does not report changes: put a RedisBackend behind TieredBackend"
            )
        count("max_bytes", max_bytes, least=1024)
        seconds("recheck", recheck)
        seconds("heartbeat", heartbeat)
        seconds("when_away", when_away, zero=True, endless=True)
        function("clock", clock)
        self._backend = backend
        self._stack = AsyncExitStack()
        self.store = TieredStore(
            lambda changed, lost: backend.tracked(changed=changed, lost=lost, heartbeat=heartbeat),
            max_bytes=max_bytes,
            recheck=recheck,
            when_away=when_away,
            clock=clock,
        )

    @property
    def counters(self) -> Counters:
        return self._backend.counters

    @property
    def bus(self) -> Bus:
        return self._backend.bus

    async def __aenter__(self) -> Self:
        self.store.clear()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._backend)
            await stack.enter_async_context(self.store.far)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()
