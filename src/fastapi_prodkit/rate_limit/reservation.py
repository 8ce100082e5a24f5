"""A cost that is known only afterwards: tokens of a model, bytes of an answer, seconds of a job."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from starlette.requests import HTTPConnection

from .decision import Decision
from .policy import Policies
from .terms import units

if TYPE_CHECKING:
    from .exchange import Exchange
    from .rule import Demand, RateLimit

__all__ = ["Reservation"]


class Reservation:
    """Charges an estimate on entering, and on leaving the difference to what it came to.

    Left by an exception before it was settled, it gives everything back.
    """

    def __init__(
        self, rule: RateLimit, place: str, connection: HTTPConnection, cost: int, exchange: Exchange | None
    ) -> None:
        self._exchange = exchange
        self._rule = rule
        self._place = place
        self._connection = connection
        self._cost = units(cost)
        self._settled: int | None = None
        self._demands: list[Demand] = []
        self._until: dict[str, float] = {}

    def settle(self, cost: int) -> None:
        """What it came to; charged on leaving, even beyond the limit."""
        self._settled = units(cost)

    async def __aenter__(self) -> Self:
        limiter = self._rule.limiter
        self._demands, decision = await limiter.weigh(
            [(self._rule, self._place)], self._connection, cost=self._cost
        )
        pairs = zip(decision.policies.items, decision.verdicts, strict=True)
        now = limiter.clock()
        self._until = {policy.limit.name: now + verdict.reset for policy, verdict in pairs}
        self._tell(decision)
        if not decision.admitted:
            raise decision.refusal()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        cost = self._settled
        if cost is None:
            cost = self._cost if exc_type is None else 0
        if cost != self._cost:
            for demand in self._demands:
                await self._settle(demand, cost - self._cost)

    async def _settle(self, demand: Demand, cost: int) -> None:
        """What has come back by itself since is not given back: by now it would be somebody else's."""
        limiter, charge = self._rule.limiter, demand.charges[0]
        now = limiter.clock()
        limits = tuple(
            limit for limit in charge.limits if cost > 0 or now < self._until.get(limit.name, math.inf)
        )
        verdicts = await limiter.settle(demand._replace(charges=(charge._replace(limits=limits),)), cost)
        policies = Policies(tuple(each for each in demand.policies.items if each.limit in limits))
        self._tell(Decision(policies, verdicts))

    def _tell(self, decision: Decision) -> None:
        if self._exchange is not None and not self._rule.terms.shadow:
            self._exchange.tell(self._rule, decision)
