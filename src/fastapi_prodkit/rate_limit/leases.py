"""Requests that run at the same time: each holds a lease for as long as it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from ..errors import UnavailableError
from ..typing import Charge, Counters

__all__ = ["Leases"]


class Leases:
    """Keeps leases until they are given back. A process that dies renews nothing, which frees them.

    :param counters: where they are held.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._held: dict[str, Charge] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self._keepers: dict[float, asyncio.Task[None]] = {}  # one for each length of a lease

    def hold(self, charge: Charge) -> None:
        self._held[charge.token] = charge
        lease = charge.limits[0].window
        keeper = self._keepers.get(lease)
        if keeper is None or keeper.done():
            self._keepers[lease] = asyncio.create_task(self._keep(lease), name="prodkit-rate-limit-leases")

    def drop(self, charge: Charge) -> None:
        """Renew it no more."""
        self._held.pop(charge.token, None)

    async def release(self, charge: Charge) -> None:
        self.drop(charge)
        with suppress(UnavailableError):
            await self._counters.weigh(charge._replace(cost=-1), force=True)

    def abandon(self, charges: Iterable[Charge]) -> None:
        """Give back what may or may not have been held: who asked for it did not wait for the answer."""
        for charge in charges:
            if charge.token:
                task = asyncio.create_task(self.release(charge), name="prodkit-rate-limit-release")
                self._releasing.add(task)
                task.add_done_callback(self._releasing.discard)

    async def _keep(self, lease: float) -> None:
        while any(charge.limits[0].window == lease for charge in self._held.values()):
            await asyncio.sleep(lease / 3)
            held = [charge for charge in self._held.values() if charge.limits[0].window == lease]
            with suppress(UnavailableError):
                await asyncio.gather(*map(self._renew, held))

    async def _renew(self, charge: Charge) -> None:
        await self._counters.weigh(charge, force=True)
        if charge.token not in self._held:  # it was given back meanwhile
            await self.release(charge)
