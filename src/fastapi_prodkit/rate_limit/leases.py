"""Requests that run at the same time: each holds a lease for as long as it lasts."""

from __future__ import annotations

import asyncio
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
        self._keeper: asyncio.Task[None] | None = None

    def hold(self, charge: Charge) -> None:
        self._held[charge.token] = charge
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="prodkit-rate-limit-leases")

    async def release(self, charge: Charge) -> None:
        self._held.pop(charge.token, None)
        with suppress(UnavailableError):
            await self._counters.weigh(charge._replace(cost=-1), force=True)

    async def _keep(self) -> None:
        while self._held:
            await asyncio.sleep(min(charge.limits[0].window for charge in self._held.values()) / 3)
            with suppress(UnavailableError):
                await asyncio.gather(*map(self._renew, list(self._held.values())))

    async def _renew(self, charge: Charge) -> None:
        await self._counters.weigh(charge, force=True)
        if charge.token not in self._held:  # it was given back meanwhile
            await self.release(charge)
