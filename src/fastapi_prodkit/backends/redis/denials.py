"""What is known to be refused, and needs no asking until its time comes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from ...errors import ConfigurationError, UnavailableError
from ...typing import Bus, Charge, Verdict

__all__ = ["Denials"]

_MAX_LIFTED = 1000
_UNTOLD = 1.0  # seconds that a denial is kept while nobody can tell us that it was lifted


class _Denial(NamedTuple):
    since: float
    until: float
    verdicts: list[Verdict]


class Denials:
    """Refusals of this process, until they end or somebody anywhere lifts them.

    :param bus: on which it is told whose counts were reset or given back.
    :param max_keys: the most refusals that it remembers.
    """

    def __init__(self, bus: Bus, *, max_keys: int = 10_000) -> None:
        self._bus = bus
        self._max_keys = max_keys
        self._denials: dict[tuple[Charge, ...], _Denial] = {}
        self._concerning: dict[str, set[tuple[Charge, ...]]] = {}  # by subject
        self._lifted: dict[str, float] = {}
        self._all_lifted = -math.inf
        self._listener: asyncio.Task[None] | None = None
        self._listening = False

    def find(self, charges: tuple[Charge, ...], now: float) -> list[Verdict] | None:
        """The verdicts on charges that are still refused, as old as they are."""
        denial = self._denials.get(charges) if self._denials else None
        if denial is None:
            return None
        if now >= denial.until or (not self._listening and now >= denial.since + _UNTOLD):
            self._forget(charges)
            return None
        return [_aged(verdict, now - denial.since) for verdict in denial.verdicts]

    def learn(self, charges: tuple[Charge, ...], verdicts: list[Verdict], asked_at: float) -> None:
        """Remember a refusal, unless it was lifted while the reply was under way. Its time counts from when
        it was asked for, so that it never lasts too long."""
        waits = [verdict.retry for verdict in verdicts if not verdict.admitted]
        if not waits:
            return
        if any(asked_at <= self._lifted.get(charge.subject, self._all_lifted) for charge in charges):
            return
        if any(limit.algorithm == "concurrent" for charge in charges for limit in charge.limits):
            return
        wait = max(waits)
        if math.isinf(wait):
            return
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="prodkit-redis-denials")
        if len(self._denials) >= self._max_keys:
            self._clear()
        for charge in charges:
            self._concerning.setdefault(charge.subject, set()).add(charges)
        self._denials[charges] = _Denial(asked_at, asked_at + wait, verdicts)

    def lift(self, subject: str, limits: Collection[str] = ()) -> None:
        """Forget what is refused to a subject, here.

        :param limits: the names of those that were given something back; all of them if it is empty.
        """
        if len(self._lifted) >= _MAX_LIFTED:
            self._lifted.clear()
            self._all_lifted = time.monotonic()
        self._lifted[subject] = time.monotonic()
        for charges in list(self._concerning.get(subject, ())):
            if not limits or any(limit.name in limits for charge in charges for limit in charge.limits):
                self._forget(charges)

    def _forget(self, charges: tuple[Charge, ...]) -> None:
        del self._denials[charges]
        for subject in {charge.subject for charge in charges}:
            self._concerning[subject].discard(charges)
            if not self._concerning[subject]:
                del self._concerning[subject]

    def _clear(self) -> None:
        self._denials.clear()
        self._concerning.clear()

    async def lift_everywhere(self, subject: str, limits: Collection[str] = ()) -> None:
        self.lift(subject, limits)
        await self._bus.publish(_CHANNEL, " ".join((subject, *limits)).encode())

    async def close(self) -> None:
        listener, self._listener = self._listener, None
        self._clear()
        if listener is not None:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    async def _listen(self) -> None:
        with suppress(UnavailableError, ConfigurationError):
            async with self._bus.subscribe(_CHANNEL) as messages:
                self._listening = True
                try:
                    async for message in messages:
                        if message is None:
                            self._clear()
                            self._lifted.clear()
                            self._all_lifted = time.monotonic()
                        else:
                            subject, *limits = message.decode().split(" ")
                            self.lift(subject, limits)
                finally:
                    self._listening = False


_CHANNEL = "rl:lifted"


def _aged(verdict: Verdict, seconds: float) -> Verdict:
    retry = max(0.0, verdict.retry - seconds)
    return Verdict(retry == 0, verdict.remaining, max(0.0, verdict.reset - seconds), retry)
