"""Limits that differ from client to client, and change while the app runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool

from .grammar import Rate, parse

__all__ = ["Plan", "Plans"]

Plan = Callable[[str], str | Awaitable[str]]
"""From an identity to its limit, such as `"100/minute"`. A plain function runs in the thread pool."""

logger = logging.getLogger("fastapi_prodkit.rate_limit")


class Plans:
    """Remembers what a plan function said, for a second; asked by many at once, it asks once.

    :param check: raises for rates that cannot hold.
    :param ttl: seconds after which the function is asked again.
    :param max_keys: the most identities it remembers.
    """

    def __init__(
        self,
        plan: Plan,
        check: Callable[[tuple[Rate, ...]], None],
        *,
        clock: Callable[[], float],
        ttl: float = 0.9,
        max_keys: int = 10_000,
    ) -> None:
        self._plan = plan
        self._check = check
        self._clock = clock
        self._ttl = ttl
        self._max_keys = max_keys
        self._known: dict[str, tuple[float, tuple[Rate, ...]]] = {}
        self._asking: dict[str, asyncio.Task[tuple[Rate, ...]]] = {}

    async def of(self, identity: str) -> tuple[Rate, ...]:
        """The rates of one identity. A function that fails leaves the last ones in force.

        :raises Exception: what the function raises before it ever answered.
        """
        known = self._known.get(identity)
        if known is not None and self._clock() < known[0]:
            return known[1]
        task = self._asking.get(identity)
        if task is None:
            task = self._asking[identity] = asyncio.create_task(self._ask(identity))
            task.add_done_callback(lambda _: self._asking.pop(identity, None))
        try:
            return await asyncio.shield(task)
        except Exception:
            if known is None:
                raise
            logger.exception("the plan of a client cannot be read: its last one stays in force")
            self._keep(identity, known[1])
            return known[1]

    async def _ask(self, identity: str) -> tuple[Rate, ...]:
        if inspect.iscoroutinefunction(self._plan):
            text = await self._plan(identity)
        else:
            text = await run_in_threadpool(self._plan, identity)
            text = await text if inspect.isawaitable(text) else text
        rates = parse(text)
        self._check(rates)
        self._keep(identity, rates)
        return rates

    def _keep(self, identity: str, rates: tuple[Rate, ...]) -> None:
        if len(self._known) >= self._max_keys and identity not in self._known:
            self._known.pop(next(iter(self._known)))
        self._known[identity] = (self._clock() + self._ttl, rates)
