"""What counts while the shared counters are away."""

from __future__ import annotations

from typing import Literal

from ..backends.memory import MemoryCounters
from ..errors import ConfigurationError, UnavailableError
from ..typing import Charge, Counters, Mode, Verdict

__all__ = ["Resilient"]


class Resilient:
    """Counters that never fail: what another cannot weigh is weighed in this process.

    :param counters: asked first, each time; one that is away says so at once.
    """

    def __init__(self, counters: Counters, *, on_outage: Literal["local", "deny"], max_keys: int) -> None:
        if on_outage not in ("local", "deny"):
            raise ConfigurationError(f"on_outage={on_outage!r}: use 'local' or 'deny'")
        self._counters = counters
        self._local = MemoryCounters(max_keys=max_keys)
        self._denies = on_outage == "deny"

    async def weigh(self, *charges: Charge, mode: Mode = "charge") -> list[Verdict]:
        try:
            return await self._counters.weigh(*charges, mode=mode)
        except UnavailableError:
            if self._denies:
                return [Verdict(False, 0, 1.0, 1.0) for charge in charges for _ in charge.limits]
            return await self._local.weigh(*charges, mode=mode)
