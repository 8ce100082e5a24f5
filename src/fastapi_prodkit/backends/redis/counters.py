"""Counts against limits, in a Redis-protocol server: one script, one round trip, the server's clock."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from ...typing import Charge, Limit, Verdict
from .scripts import Script
from .url import Wire

__all__ = ["RedisCounters"]

_WEIGH = Script(files(__package__).joinpath("counters.lua").read_text())


class RedisCounters:
    """`Counters` on the server.

    :param wire: carries the commands.
    :param prefix: goes before every key.
    :param clustered: whether subjects may live on different servers; then each is weighed on its own, and
        what was charged is given back where another one refuses.
    :param clock: Unix time in place of the server's own; for tests.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        prefix: str,
        clustered: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._wire = wire
        self._prefix = prefix
        self._clustered = clustered
        self._clock = clock

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        if self._clustered and len({charge.subject for charge in charges}) > 1:
            return await self._weigh_apart(charges, force)
        return await self._weigh(charges, force)

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        calls = (self._wire.call("DEL", self._key(subject, limit)) for limit in limits)
        await asyncio.gather(*calls)

    async def _weigh(self, charges: Sequence[Charge], force: bool = False) -> list[Verdict]:
        keys: list[str] = []
        arguments: list[Any] = ["" if self._clock is None else round(self._clock() * 1e6), int(force), 0]
        for charge in charges:
            for limit in charge.limits:
                keys.append(self._key(charge.subject, limit))
                arguments += _arguments(limit, self._clock or time.time)
                arguments += (charge.cost, int(charge.dry))
        if not keys:
            return []
        arguments[2] = len(keys)
        found = await _WEIGH.run(self._wire, keys, arguments)
        return [_verdict(*found[index : index + 4]) for index in range(0, len(found), 4)]

    async def _weigh_apart(self, charges: Sequence[Charge], force: bool) -> list[Verdict]:
        """Each subject on its own server: nothing is charged unless all were found to fit, and what two
        that raced for the last unit were charged is given back."""
        if force:
            return _flat(await asyncio.gather(*(self._weigh([each], force) for each in charges)))
        dry = [each._replace(dry=True) for each in charges]
        found = _flat(await asyncio.gather(*(self._weigh([each]) for each in dry)))
        if not all(verdict.admitted for verdict in found):
            return found
        charged = await asyncio.gather(*(self._weigh([each]) for each in charges))
        admitted = [all(verdict.admitted for verdict in verdicts) for verdicts in charged]
        if not all(admitted):
            back = [
                each._replace(cost=-each.cost)
                for each, was in zip(charges, admitted, strict=True)
                if was and not each.dry
            ]
            await asyncio.gather(*(self._weigh([each], force=True) for each in back))
        return _flat(charged)

    def _key(self, subject: str, limit: Limit) -> str:
        return f"{self._prefix}rl:{{{subject}}}:{limit.name}"


def _arguments(limit: Limit, clock: Callable[[], float]) -> tuple[Any, ...]:
    """What the script wants to know of a limit."""
    edges = ""
    if limit.period is not None:
        start, end = limit.period(clock())
        before, after = limit.period(start - 1)[0], limit.period(end)[1]
        edges = ",".join(f"{edge * 1e6:.0f}" for edge in (before, start, end, after))
    window = round(limit.window * 1e6)
    return limit.algorithm, limit.capacity, limit.quota, window, edges


def _verdict(fits: int, remaining: int, reset: int, retry: int) -> Verdict:
    return Verdict(bool(fits), remaining, reset / 1e6, math.inf if retry < 0 else retry / 1e6)


def _flat(verdicts: Sequence[list[Verdict]]) -> list[Verdict]:
    return [each for several in verdicts for each in several]
