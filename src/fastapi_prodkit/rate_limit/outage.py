"""What counts while the shared counters are away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from ..backends.memory import MemoryCounters
from ..errors import ConfigurationError, UnavailableError
from ..typing import Charge, Counters, Limit, Verdict

__all__ = ["Resilient"]

_CHUNK = 100  # counts that are carried over in one call


class Resilient:
    """Counters that never fail: what another cannot weigh is weighed in this process, and carried over
    before the other one weighs again.

    :param counters: asked first, each time; one that is away says so at once.
    :param max_keys: the most counts held here.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        on_outage: Literal["local", "deny"],
        max_keys: int,
        clock: Callable[[], float],
    ) -> None:
        if on_outage not in ("local", "deny"):
            raise ConfigurationError(f"on_outage={on_outage!r}: use 'local' or 'deny'")
        self._counters = counters
        self._local = MemoryCounters(max_keys=max_keys, clock=clock)
        self._max_keys = max_keys
        self._denies = on_outage == "deny"
        self._spent: dict[tuple[str, str], Limit] = {}
        self._carrying: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return getattr(self._counters, "is_open", True)

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        try:
            if self._spent:
                await self._carry_over(charges)
            return await self._counters.weigh(*charges, force=force)
        except UnavailableError:
            return await self._weigh_here(charges, force)

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        """Forget here and there.

        :raises UnavailableError: if it cannot be forgotten there.
        """
        for limit in limits:
            self._spent.pop((subject, limit.name), None)
        await self._local.reset(subject, limits)
        await self._counters.reset(subject, limits)

    async def _weigh_here(self, charges: tuple[Charge, ...], force: bool) -> list[Verdict]:
        if self._denies and not force:
            return [Verdict(False, 0, 1.0, 1.0) for charge in charges for _ in charge.limits]
        verdicts = await self._local.weigh(*charges, force=force)
        if force or all(verdict.admitted for verdict in verdicts):
            for charge in charges:
                # who holds a token renews it there by itself
                if charge.cost and not charge.dry and not charge.token:
                    self._note(charge)
        return verdicts

    def _note(self, charge: Charge) -> None:
        for limit in charge.limits:
            if len(self._spent) < self._max_keys:
                self._spent[charge.subject, limit.name] = limit

    async def _carry_over(self, charges: tuple[Charge, ...]) -> None:
        """Charge there what was spent here: first for those who wait, then for everyone."""
        own = [(charge.subject, limit.name) for charge in charges for limit in charge.limits]
        moving = asyncio.gather(*(self._move(each) for each in own if each in self._spent))
        moving.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(moving)  # who is cancelled meanwhile takes nothing of it away
        if self._spent and (self._carrying is None or self._carrying.done()):
            self._carrying = asyncio.create_task(self._carry(), name="prodkit-rate-limit-carry-over")

    async def _carry(self) -> None:
        with suppress(UnavailableError):
            while self._spent:
                await asyncio.gather(*(self._move(each) for each in list(self._spent)[:_CHUNK]))

    async def _move(self, key: tuple[str, str]) -> None:
        limit = self._spent.pop(key, None)
        if limit is None:
            return
        charge = Charge(key[0], (limit,), self._local.take(key[0], limit))
        try:
            await self._counters.weigh(charge, force=True)
        except UnavailableError:
            await self._weigh_here((charge,), force=True)
            raise
