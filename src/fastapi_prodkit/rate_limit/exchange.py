"""One request: what was decided about it so far, and what is still to be settled."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from ..errors import ProblemError
from .bound import Bound
from .decision import Decision
from .fields import fields
from .refusals import Refusals
from .rule import SLOT, Demand, RateLimit

__all__ = ["Exchange", "Manner"]

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class Manner(Protocol):
    """How the requests of one app are limited.

    :param legacy_headers: whether X-RateLimit fields are sent too.
    :param refusals: is told whom the rules of a route refuse.
    """

    legacy_headers: bool
    refusals: Refusals

    def find(self, scope: Scope) -> Bound | None:
        """The rules of the route that a scope was matched to; none before that."""

    def template(self, scope: Scope) -> str:
        """Where a rule counts that is called and not depended on: the method and path template."""


class Exchange:
    """Stands between the server and the app for one request."""

    __slots__ = (
        "_called",
        "_charged",
        "_decided",
        "_decisions",
        "_later",
        "_manner",
        "_receive",
        "_reserved",
        "_routed",
        "_scope",
        "_send",
        "held",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, manner: Manner) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._manner = manner
        self._decided: dict[RateLimit, Decision] = {}
        self._decisions: list[Decision] = []
        self._reserved: dict[RateLimit, Decision] | None = None
        self._charged: list[tuple[list[Demand], Decision]] = []
        self._routed = False
        self._called = 0
        self._later: list[tuple[Demand, Decision]] | None = None
        self.held: list[Demand] | None = None

    async def receive(self) -> Message:
        """The router reads a body before it runs dependencies; the limits come first."""
        if not self._routed and self._scope["type"] == "http" and self._scope.get(SLOT) is self:
            bound = self._manner.find(self._scope)
            if bound is not None:
                self._routed = True
                await self._weigh_early(bound)
        return await self._receive()

    async def _weigh_early(self, bound: Bound) -> None:
        """A function of the user that fails is left to the dependency, which calls it again: raised from here
        it would be taken for a broken body."""
        try:
            await self.weigh(bound, HTTPConnection(self._scope))
        except ProblemError:
            raise
        except Exception:
            return

    async def decide(self, rule: RateLimit, connection: HTTPConnection) -> Decision:
        """What was decided for this rule, together with the others of its route.

        :raises ProblemError: if a limit is used up.
        """
        decision = self._decided.get(rule)
        if decision is None:
            scope = connection.scope  # a mounted app may have one of its own
            bound = self._manner.find(scope)
            if bound is None or rule not in bound.rules:
                bound = Bound([(rule, rule.place(self._manner.template(scope), self._called))])
                self._called += rule.terms.name is None
            self._routed = True
            await self.weigh(bound, connection, wanted=rule)
            decision = self._decided[rule]
        if not decision.admitted:  # and somebody caught that
            raise decision.refusal()
        return decision

    def tell(self, rule: RateLimit, decision: Decision) -> None:
        """Have the response tell of what was decided beside the limits of the route."""
        self._reserved = self._reserved or {}
        known = self._decided.get(rule) or self._reserved.setdefault(rule, decision)
        known.update(decision.policies, decision.verdicts)
        if known not in self._decisions:
            self._decisions.append(known)

    async def weigh(
        self, bound: Bound, connection: HTTPConnection, *, wanted: RateLimit | None = None
    ) -> None:
        """Weigh rules that were not weighed yet and not overridden, those of one limiter together.

        :param wanted: the one that FastAPI called, so that it is in force whatever is overridden.
        :raises ProblemError: if a limit is used up.
        """
        decided = self._decided
        replaced = getattr(connection.scope["app"], "dependency_overrides", ())
        for limiter, entries in bound.groups:
            if decided or replaced:
                entries = tuple(
                    (rule, place)
                    for rule, place in entries
                    if rule not in decided and (rule is wanted or rule not in replaced)
                )
            demands, decision = await limiter.weigh(entries, connection)
            for entry in entries:
                decided[entry[0]] = decision
            self._decisions.append(decision)
            if not decision.admitted:
                raise await self._refused(bound, demands, decision)
            self._charged.append((demands, decision))
            for demand in demands:
                if not demand.rule.is_plain:
                    self._note(demand, decision)

    async def weigh_ahead(self, bound: Bound) -> None:
        """`weigh` before the dependencies, for rules that are plain.

        :raises ProblemError: if a limit is used up.
        """
        if bound.key is None or len(bound.groups) > 1 or self._decided:
            await self.weigh(bound, HTTPConnection(self._scope))
            return
        [(limiter, entries)] = bound.groups
        demands = limiter.plain_demands(entries, bound.key(self._scope))
        decision = await limiter.decide(demands, self._scope)
        self._decided = dict.fromkeys(bound.rules, decision)
        self._decisions.append(decision)
        self._routed = True
        if not decision.admitted:
            raise await self._refused(bound, demands, decision)
        self._charged.append((demands, decision))

    async def _refused(self, bound: Bound, demands: list[Demand], decision: Decision) -> ProblemError:
        """Give back what limits of the whole app, or of another limiter, were charged for it before."""
        if bound.is_early and self._scope["type"] == "http":
            self._manner.refusals.learn(self._scope, bound, demands[0], decision.retry_after or 0)
        charged, self._charged = self._charged, []
        for before, admission in charged:
            for demand in before:
                charge = demand.charges[0]
                if charge.cost > 0 and not charge.dry and not charge.token:
                    verdicts = await demand.rule.limiter.settle(demand, -charge.cost)
                    admission.update(demand.policies, verdicts)
        return decision.refusal()

    def _note(self, demand: Demand, decision: Decision) -> None:
        """What is to be settled when the response starts, and given back when it is over."""
        if demand.rule.terms.statuses is not None:
            self._later = [*(self._later or ()), (demand, decision)]
        if demand.charges[0].token:
            demand.rule.limiter.leases.hold(demand.charges[0])
            self.held = [*(self.held or ()), demand]

    async def release(self) -> None:
        """Give back what was held. Who is cancelled once more while he waits gives it back by silence."""
        held = self.held or []
        for demand in held:
            demand.rule.limiter.leases.drop(demand.charges[0])
        for demand in held:
            await demand.rule.limiter.leases.release(demand.charges[0])

    def send(self, message: Message) -> Awaitable[None]:
        if not self._decisions:
            return self._send(message)
        if message["type"] in _STARTS:
            if self._later:
                return self._send_settled(message)
            return self._send(self._told(message))
        if self._later and message["type"] == "websocket.close":
            return self._send_turned_down(message)
        return self._send(message)

    async def _send_settled(self, message: Message) -> None:
        await self._settle(message.get("status", 101))
        await self._send(self._told(message))

    async def _send_turned_down(self, message: Message) -> None:
        """A socket closed before it was accepted becomes a 403."""
        await self._settle(403)
        await self._send(message)

    def _told(self, message: Message) -> Message:
        """The message with the fields that tell the client; the app may send its own once more."""
        added = fields(self._decisions, legacy=self._manner.legacy_headers)
        return {**message, "headers": [*message.get("headers", ()), *added]}

    async def fail(self) -> None:
        """Settle for an error that is answered further out, where this sees no response."""
        if self._later:
            await self._settle(500)

    async def _settle(self, status: int) -> None:
        """Charge the rules that count what is answered with this status."""
        later, self._later = self._later or [], None
        for demand, decision in later:
            statuses = demand.rule.terms.statuses
            if statuses is not None and status in statuses:
                verdicts = await demand.rule.limiter.settle(demand, demand.charges[0].cost)
                decision.update(demand.policies, verdicts)
