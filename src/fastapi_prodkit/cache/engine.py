"""Finds answers, and sees to it that of many who miss one computes."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends.memory import MemoryStore
from ..errors import UnavailableError
from ..typing import Store
from .entry import Entry
from .policy import Policy
from .stamps import Stamps, stamp_key
from .ticket import Ticket, Waiting

__all__ = ["Engine", "Found", "Outcome"]

logger = logging.getLogger("fastapi_prodkit.cache")

_FIRST_POLL = 0.005
_LAST_POLL = 0.05


@dataclass(slots=True)
class Found:
    """What the store holds for a key. `stamps` is `None` while the store is away."""

    key: str
    stamp_keys: tuple[str, ...]
    entry: Entry | None
    stamps: tuple[bytes | None, ...] | None


@dataclass(slots=True)
class Outcome:
    """An answer, or the ticket of who has to compute it."""

    entry: Entry | None = None
    ticket: Ticket | None = None
    collapsed: bool = False
    found: Found | None = None


class Engine:
    """The cache without HTTP: entries, stamps, leases.

    :param store: where entries are.
    :param namespace: of all its stamps.
    :param lease: seconds after which another process takes over from one that was killed.
    :param clock: the wall clock, in seconds: processes that share a store share it.
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str,
        lease: float,
        compress_above: float = math.inf,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._everything = stamp_key(namespace, "all")
        self.use(store)
        self.lease = lease
        self.compress_above = compress_above
        self.clock = clock
        self.chance = chance
        self.epoch = 0
        self._codes: dict[str, Any] = {}
        self._ambiguous: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def use(self, store: Store) -> None:
        """Keep everything in `store` from now on, and forget what is owed to another."""
        self.store = store
        self.is_alone = isinstance(store, MemoryStore)  # nobody else to take leases against
        self.stamps = Stamps(store, everything=self._everything, spawn=self.spawn, at_once=not self.is_alone)
        self._flights: dict[Any, Ticket] = {}

    def register(self, name: str, function: Any) -> None:
        """Note what is called by this name: two that are not the same cannot share answers."""
        known = self._codes.setdefault(name, (function.__code__, function))
        if known[1] is not function and (known[0] != function.__code__ or function.__closure__):
            self._ambiguous.add(name)

    def is_ambiguous(self, name: str) -> bool:
        return name in self._ambiguous

    async def find(self, key: str, stamp_keys: tuple[str, ...]) -> Found:
        """One round trip. An entry whose stamps are not those of now is none."""
        if self.stamps.owes(stamp_keys):
            return Found(key, stamp_keys, None, None)
        try:
            raw, *held = await self.store.get(key, *stamp_keys)
        except UnavailableError:
            return Found(key, stamp_keys, None, None)
        stamps = tuple(held)
        entry = None
        if raw is not None and None not in stamps:
            entry = Entry.from_bytes(raw)
            if entry is not None and entry.stamps != b"".join(stamps):  # type: ignore[arg-type]  # no None in it
                entry = None
        return Found(key, stamp_keys, entry, stamps)

    async def obtain(
        self, key: str, stamp_keys: tuple[str, ...], policy: Policy, found: Found | None = None
    ) -> Outcome:
        """The answer for `key`, or the ticket that obliges the caller to compute it.

        :param found: what a look at the store has shown already, during this request.
        :raises Exception: the error of another caller who was computing it meanwhile.
        """
        while True:
            if found is None:
                found = await self.find(key, stamp_keys)
            entry, now = found.entry, self.clock()
            if entry is not None and entry.uncacheable and now < entry.expires:
                return Outcome(ticket=self.alone(found))
            if entry is not None and policy.may_serve(entry, now):
                return Outcome(entry=entry, found=found)
            outcome = await self._compute_or_wait(found, policy)
            if outcome is not None:
                return outcome
            found = None

    async def afresh(self, found: Found) -> Ticket:
        """A ticket to compute an answer whatever is stored.

        :param found: what a look at the store has just shown.
        """
        if found.stamps is not None:
            try:
                found.stamps = await self.stamps.fill(found.stamp_keys, found.stamps)
            except UnavailableError:
                found.stamps = None
        return self.alone(found)

    def alone(self, found: Found) -> Ticket:
        """A ticket that nobody waits for."""
        return Ticket(self, found, None)

    def reserve(self, found: Found) -> Ticket | None:
        """The ticket of who comes first in this process; `None` for everyone else."""
        place = self._place(found)
        if place in self._flights:
            return None
        ticket = self._flights[place] = Ticket(self, found, place)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out of the book: who comes now, comes for a new answer."""
        if ticket.place is not None and self._flights.get(ticket.place) is ticket:
            del self._flights[ticket.place]

    async def lead(self, ticket: Ticket, policy: Policy, *, wait: bool = True) -> Entry | Waiting | None:
        """Become the only one of all processes who computes: `None` says so.

        Otherwise: the answer that another process came up with, or why to start again.

        :param wait: whether to wait for the other process, or to leave it to it.
        """
        found = ticket.found
        if found.stamps is None:
            return None
        try:
            stamps = await self.stamps.fill(found.stamp_keys, found.stamps)
            if stamps != found.stamps:
                found.stamps = stamps
                if not self._move(ticket):
                    return Waiting.AGAIN
            held = await ticket.take_lease()
            delay = _FIRST_POLL
            while not held:
                if not wait:
                    return Waiting.AGAIN
                await asyncio.sleep(delay)
                delay = min(delay * 1.6, _LAST_POLL)
                answer = await self._look(ticket, policy)
                if answer is not None:
                    return answer
                held = ticket.lease_is_free and await ticket.take_lease()
        except UnavailableError:
            found.stamps = None
        return None

    def reserve_refresh(self, found: Found, policy: Policy) -> Ticket | None:
        """The ticket to refresh an entry that was served, for the one whose turn it is."""
        assert found.entry is not None
        if policy.wants_refresh(found.entry, self.clock(), self.chance()):
            return self.reserve(found)
        return None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it behind the request, and keep hold of it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def report(self, error: Exception) -> None:
        """A refresh behind the request failed: the old answer serves on."""
        logger.error("a refresh failed: %s", type(error).__name__, exc_info=error)

    async def close(self) -> None:
        """Cancel what runs behind the requests of this loop."""
        loop = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is loop]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def renew(self, stamp_keys: Sequence[str]) -> bool:
        """Invalidate all that carries one of these stamps; whether that is done already."""
        self.epoch += 1
        return await self.stamps.renew(stamp_keys)

    async def _compute_or_wait(self, found: Found, policy: Policy) -> Outcome | None:
        ticket = self.reserve(found)
        if ticket is None:
            return self._outcome(found, await self._flights[self._place(found)].wait())
        ticket.holder = asyncio.current_task()
        if self.is_alone and found.stamps is not None and None not in found.stamps:
            return Outcome(ticket=ticket, found=found)  # no process to lead, and no stamp to make
        try:
            answer = await self.lead(ticket, policy)
        except BaseException:
            await ticket.close()
            raise
        if answer is None:
            return Outcome(ticket=ticket, found=found)
        ticket.settle(answer)
        await ticket.close()
        return self._outcome(found, answer)

    def _outcome(self, found: Found, answer: Entry | Waiting) -> Outcome | None:
        """What another's answer means for who waited; `None` is to begin again."""
        if isinstance(answer, Entry):
            return Outcome(entry=answer, collapsed=True)
        return Outcome(ticket=self.alone(found)) if answer is Waiting.ALONE else None

    async def _look(self, ticket: Ticket, policy: Policy) -> Entry | Waiting | None:
        """Whether the process that has the lease is done."""
        found = ticket.found
        raw, lease, *stamps = await self.store.get(found.key, ticket.lease_key, *found.stamp_keys)
        ticket.lease_is_free = lease is None
        if tuple(stamps) != found.stamps:
            return Waiting.AGAIN
        entry = Entry.from_bytes(raw) if raw is not None else None
        if entry is None or entry.stamps != ticket.stamps:
            return None
        now = self.clock()
        if entry.uncacheable:
            return Waiting.ALONE if now < entry.expires else None
        return entry if policy.is_fresh(entry, now) else None

    def _place(self, found: Found) -> Any:
        return (asyncio.get_running_loop(), found.key, found.stamps or self.epoch)

    def _move(self, ticket: Ticket) -> bool:
        """Register it under the stamps that it has now, unless another is there."""
        self.leave(ticket)
        place = self._place(ticket.found)
        if place in self._flights:
            ticket.place = None
            return False
        ticket.place = place
        self._flights[place] = ticket
        return True
