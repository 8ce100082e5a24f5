"""What follows from a refusal: who is told, and who is banned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from ..typing import Counters, Verdict
from .decision import Decision
from .policy import digest

if TYPE_CHECKING:
    from .rule import Demand, RateLimit

__all__ = ["Consequences"]

logger = logging.getLogger("fastapi_prodkit.rate_limit")


class Consequences:
    """
    :param counters: where refusals are counted towards a ban.
    :param on_refusal: called with what was refused, by a limit in shadow too.
    """

    def __init__(
        self, counters: Counters, on_refusal: Callable[[RateLimit, HTTPConnection], None] | None
    ) -> None:
        self._counters = counters
        self._on_refusal = on_refusal

    async def of(self, demands: Sequence[Demand], decision: Decision, connection: HTTPConnection) -> Decision:
        """Tell who wants to know, and ban who will not stop."""
        verdicts = list(decision.verdicts)
        end = 0
        for demand in demands:
            start, end = end, end + len(demand.policies.items)
            if all(verdict.admitted for verdict in verdicts[start:end]):
                continue
            self.tell(demand.rule, connection)
            ban = demand.rule.terms.ban
            if ban is not None and verdicts[end - 1].admitted:
                place = digest(demand.place, size=6)
                seconds = await ban.refused(self._counters, demand.charges[0].subject, place)
                if seconds:
                    verdicts[end - 1] = Verdict(False, 0, seconds, seconds)
        return Decision(decision.policies, verdicts)

    def tell(self, rule: RateLimit, connection: HTTPConnection) -> None:
        rule.refused += 1
        if rule.terms.shadow:
            logger.info("a limit in shadow would have refused %s", connection.scope["path"])
        if self._on_refusal is not None:
            try:
                self._on_refusal(rule, connection)
            except Exception:
                logger.exception("on_refusal= failed")
