"""Counts against limits, in a Redis-protocol server: one script, one round trip, the server's clock."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

from ...errors import UnavailableError
from ...typing import Bus, Charge, Limit, Verdict
from .denials import Denials
from .scripts import Script
from .url import Wire

__all__ = ["RedisCounters"]

_MAX_KNOWN = 4096  # tuples of limits, each kept alive so that its id stays its own
_WEIGH = Script(files(__package__).joinpath("counters.lua").read_text())


class RedisCounters:
    """`Counters` on the server.

    :param wire: carries the commands.
    :param prefix: goes before every key.
    :param bus: tells all who share the counters of what was reset.
    :param clustered: whether subjects may live on different servers; then each is weighed on its own, and
        what was charged is given back where another one refuses.
    :param clock: Unix time in place of the server's own; for tests.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        prefix: str,
        bus: Bus,
        clustered: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._wire = wire
        self._prefix = prefix
        self._clustered = clustered
        self._clock = clock
        self._known: dict[int, tuple[tuple[Limit, ...], str]] = {}
        self._denials = Denials(bus) if clock is None else None

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        denials = self._denials
        if force or denials is None:
            verdicts = await self._weigh_all(charges, force)
            if force and denials is not None:
                await self._lift(charges, denials)
            return verdicts
        now = time.monotonic()
        known = denials.find(charges, now)
        if known is not None:
            return known
        verdicts = await self._weigh_all(charges, force)
        denials.learn(charges, verdicts, now)
        return verdicts

    async def close(self) -> None:
        if self._denials is not None:
            await self._denials.close()

    async def _lift(self, charges: tuple[Charge, ...], denials: Denials) -> None:
        """Who was refused and was given something back is to be weighed anew everywhere."""
        for charge in charges:
            if charge.cost < 0 and not charge.token:
                with suppress(UnavailableError):
                    await denials.lift_everywhere(charge.subject, [limit.name for limit in charge.limits])

    async def _weigh_all(self, charges: tuple[Charge, ...], force: bool) -> list[Verdict]:
        if self._clustered and len({charge.subject for charge in charges}) > 1:
            return await self._weigh_apart(charges, force)
        return await self._weigh(charges, force)

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        calls = (self._wire.call("DEL", self._key(subject, limit)) for limit in limits)
        await asyncio.gather(*calls)
        if self._denials is not None:
            await self._denials.lift_everywhere(subject)

    async def _weigh(self, charges: Sequence[Charge], force: bool = False) -> list[Verdict]:
        keys: list[str] = []
        arguments: list[Any] = ["" if self._clock is None else round(self._clock() * 1e6), int(force)]
        for subject, limits, cost, dry, token in charges:
            prefix = f"{self._prefix}rl:{{{subject}}}:"
            keys += [prefix + limit.name for limit in limits]
            arguments += (f"{cost} {dry:d} {token}", self._words(limits))
        if not keys:
            return []
        found = (await _WEIGH.run(self._wire, keys, arguments)).split()
        try:
            return [_verdict(*found[index : index + 4]) for index in range(0, len(found), 4)]
        except ValueError:  # somebody else wrote what this made no sense of
            raise UnavailableError("the counts on the Redis server cannot be read") from None

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
            back = tuple(
                each._replace(cost=-each.cost)
                for each, was in zip(charges, admitted, strict=True)
                if was and not each.dry
            )
            await asyncio.gather(*(self._weigh([each], force=True) for each in back))
            if self._denials is not None:
                await self._lift(back, self._denials)  # who was refused for it meanwhile
        return _flat(charged)

    def _words(self, limits: tuple[Limit, ...]) -> str:
        """What the script wants to know of limits; the same for most requests."""
        known = self._known.get(id(limits))
        if known is None:
            words = "".join(map(self._describe, limits))
            if any(limit.period is not None for limit in limits):
                return words
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[id(limits)] = (limits, words)
        return known[1]

    def _describe(self, limit: Limit) -> str:
        edges = ""
        if limit.period is not None:
            start, end = limit.period((self._clock or time.time)())
            before, after = limit.period(start - 1)[0], limit.period(end)[1]
            edges = ",".join(f"{edge * 1e6:.0f}" for edge in (before, start, end, after))
        window = round(limit.window * 1e6)
        return f"{limit.algorithm} {limit.capacity} {limit.quota} {window} {edges};"

    def _key(self, subject: str, limit: Limit) -> str:
        return f"{self._prefix}rl:{{{subject}}}:{limit.name}"


def _verdict(fits: bytes, remaining: bytes, reset: bytes, retry: bytes) -> Verdict:
    wait = int(retry)
    return Verdict(fits == b"1", int(remaining), int(reset) / 1e6, math.inf if wait < 0 else wait / 1e6)


def _flat(verdicts: Sequence[list[Verdict]]) -> list[Verdict]:
    return [each for several in verdicts for each in several]
