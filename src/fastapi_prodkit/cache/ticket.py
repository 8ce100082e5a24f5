"""The duty to compute one answer, and everyone who waits for it."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from enum import Enum
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UnavailableError
from .entry import Entry

if TYPE_CHECKING:
    from .engine import Engine, Found

__all__ = ["Ticket", "Waiting"]


_DECLINED = 5.0  # seconds


class Waiting(Enum):
    """What those who waited do, when there is no answer for them."""

    AGAIN = 1
    ALONE = 2


class _Failure(NamedTuple):
    error: Exception
    traceback: TracebackType | None


class Ticket:
    """Held by who computes: ended by `publish`, `decline`, `settle` or `fail`; `close` always comes last.

    Closed without an end (its holder was cancelled), one of those who wait takes over.
    """

    __slots__ = (
        "_ended",
        "_engine",
        "_future",
        "_lease",
        "_timer",
        "began",
        "found",
        "holder",
        "lease_is_free",
        "place",
    )

    def __init__(self, engine: Engine, found: Found, place: Any) -> None:
        self._engine = engine
        self.found = found
        self.place = place
        self.began = engine.clock()
        self.lease_is_free = False
        self.holder: asyncio.Task[Any] | None = None
        self._ended = False
        self._future: asyncio.Future[Entry | Waiting | _Failure] | None = None
        self._lease: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    def now(self) -> float:
        return self._engine.clock()

    @property
    def stamps(self) -> bytes | None:
        """The stamps from before the computation; `None` if there are none to be had."""
        stamps = self.found.stamps
        if stamps is None or None in stamps:
            return None
        return b"".join(stamps)  # type: ignore[arg-type]  # no None in it

    @property
    def lease_key(self) -> str:
        name = blake2b(self.stamps or b"", digest_size=8).hexdigest()
        return f"{self.found.key}:lease:{name}"

    async def wait(self) -> Entry | Waiting:
        """What its holder comes up with.

        :raises Exception: the error of its holder.
        :raises RecursionError: to its holder, who would wait for ever.
        """
        if self.holder is not None and self.holder is asyncio.current_task():
            raise RecursionError("to compute what is cached, it is asked for again with the same arguments")
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        answer = await asyncio.shield(self._future)
        if isinstance(answer, _Failure):
            raise answer.error.with_traceback(answer.traceback)  # or each who waits would lengthen it
        return answer

    async def take_lease(self) -> bool:
        """Be the only one of all processes."""
        engine = self._engine
        if engine.is_alone:
            return True
        lease = os.urandom(12)
        if await engine.store.add(self.lease_key, lease, ttl=engine.lease) != lease:
            return False
        self._lease = lease
        self._arm()
        return True

    async def publish(self, entry: Entry, *, ttl: float) -> None:
        """Hand the entry to those who wait, and keep it."""
        if self._ended:
            return
        await self._keep(entry, ttl)
        self.settle(entry)

    async def decline(self) -> None:
        """There is no answer to keep: for a while, nobody waits for another's, in any process."""
        if not self._ended:
            now = self.now()
            mark = Entry(b"", b"", now, now + _DECLINED, 0.0, uncacheable=True)
            self._settle(Waiting.ALONE)
            await self._keep(mark, _DECLINED)

    def fail(self, error: Exception) -> None:
        """Those who wait get the same error, and do not try again."""
        self._settle(_Failure(error, error.__traceback__))

    def settle(self, answer: Entry | Waiting) -> None:
        """Keep nothing, and have those who wait served with this, or do this."""
        self._settle(answer)

    def abandon(self) -> None:
        """Have another take over at once: whatever its holder comes up with is not kept."""
        self._engine.spawn(self.close())

    async def close(self) -> None:
        """Give up the lease, then wake whoever still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                with suppress(UnavailableError):
                    await self._engine.store.release(self.lease_key, lease)
            finally:
                self._settle(Waiting.AGAIN)
        else:
            self._settle(Waiting.AGAIN)

    async def _keep(self, entry: Entry, ttl: float) -> None:
        stamps = self.stamps
        if stamps is not None:
            entry.stamps = stamps
            raw = entry.to_bytes(compress_above=self._engine.compress_above)
            try:
                await self._engine.store.set(self.found.key, raw, ttl=ttl)
            except UnavailableError:
                return

    def _settle(self, answer: Entry | Waiting | _Failure) -> None:
        if self._ended:
            return
        self._ended = True
        self._engine.leave(self)
        if self._future is not None and not self._future.done():
            self._future.set_result(answer)

    def _arm(self) -> None:
        """Renew the lease in time: it bounds how long a killed process holds up others, not the work."""
        self._timer = asyncio.get_running_loop().call_later(self._engine.lease / 3, self._renew)

    def _renew(self) -> None:
        if self._lease is not None:
            self._engine.spawn(self._extend(self._lease))
            self._arm()

    async def _extend(self, lease: bytes) -> None:
        try:
            await self._engine.store.set(self.lease_key, lease, ttl=self._engine.lease)
        except UnavailableError:
            return
