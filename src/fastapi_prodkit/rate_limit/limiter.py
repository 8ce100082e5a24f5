"""The rate limiter of an app: where counts are kept, and what its limits have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._arguments import count, function, instance, seconds
from .._client import TrustedProxies
from ..backends.memory import MemoryCounters
from ..errors import ConfigurationError
from ..typing import Charge, Counters, Verdict
from .bans import Ban
from .bound import Entry
from .calendar import Calendar
from .consequences import Consequences
from .decision import Decision
from .grammar import Rate
from .inspection import forget, look
from .keys import Key, by_address
from .leases import Leases
from .outage import Resilient
from .plans import Plan
from .policy import Policies, digest
from .rule import Demand, RateLimit
from .terms import Cost, Terms, Test, value

__all__ = ["RateLimiter"]

_NONE = Policies(())
_LONG = 256  # characters of a key: whoever sends longer ones must not fill the memory with them


class RateLimiter:
    """Makes rate limits that count in one place.

    :param counters: where, such as `backend.counters`.
    :param key: who a request counts for; the client's address by default.
    :param trusted_proxies: networks or number of the proxies before the app, for the default key.
    :param ipv6_prefix: bits of an IPv6 address that tell clients apart, for the default key.
    :param without_key: what becomes of a request whose key is `None`: an `"error"` (500, the default), or
        one budget that all of them have `"shared"`. Never a way around the limit.
    :param on_outage: while the counters are away, count `"local"`ly in this process, or `"deny"`.
    :param on_refusal: called with what was refused, by a limit in shadow too; for metrics.
    :param max_keys: the most counts held in this process during an outage.
    :param secret: makes the hashes of identities in the store useless to who reads it.
    :param clock: seconds, never backwards; for what is remembered in this process.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        key: Key | None = None,
        trusted_proxies: TrustedProxies | Iterable[str] | int = (),
        ipv6_prefix: int = 64,
        without_key: Literal["error", "shared"] = "error",
        on_outage: Literal["local", "deny"] = "local",
        on_refusal: Callable[[RateLimit, HTTPConnection], None] | None = None,
        max_keys: int = 100_000,
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if without_key not in ("error", "shared"):
            raise ConfigurationError(f"without_key={without_key!r}: use 'error' or 'shared'")
        instance(
            "counters",
            counters,
            Counters,
            "hand over those of a backend, as in RateLimiter(backend.counters)",
        )
        if type(secret) is not bytes or len(secret) > 64:  # it is in no message
            raise ConfigurationError("secret= must be bytes, at most 64 of them: hash what is longer")
        for name, given in (("key", key), ("on_refusal", on_refusal)):
            if given is not None:
                function(name, given)
        self.clock = function("clock", clock)
        resilient = Resilient(counters, on_outage=on_outage, max_keys=max_keys, clock=clock)
        self.counters: Counters = counters if isinstance(counters, MemoryCounters) else resilient
        self._key = key or by_address(trusted_proxies, ipv6_prefix=ipv6_prefix)
        self._without_key = without_key
        self._consequences = Consequences(self.counters, on_refusal)
        self._digest = lru_cache(maxsize=8192)(lambda identity: digest(identity, key=secret))
        self.leases = Leases(self.counters)
        self._joined = lru_cache(maxsize=1024)(Policies.join)
        self._rules: list[RateLimit] = []
        self._disabled = 0

    def __call__(
        self,
        limit: str | Plan,
        *,
        name: str | None = None,
        key: Key | None = None,
        cost: Cost = 1,
        burst: int | None = None,
        algorithm: Literal["gcra", "sliding", "moving"] | Calendar = "gcra",
        exempt: Test | None = None,
        statuses: AbstractSet[int] | None = None,
        ban: Ban | None = None,
        shadow: bool = False,
    ) -> RateLimit:
        """A limit for a route to depend on: `Depends(limiter("10/second;100/minute"))`.

        :param limit: in the grammar of the `limits` package, several being one decision; or a function
            from a key to such a limit, asked at most once a second for each key.
        :param name: one budget for all routes that name it. Without a name each route has its own, by its
            method and path template.
        :param key: who a request counts for.
        :param cost: units that a request costs, or a function of it.
        :param burst: how many units may come at once (`gcra`); by default the quota.
        :param algorithm: `gcra`, `sliding`, `moving` or a `Calendar`.
        :param exempt: a function of the request that tells who is not limited.
        :param statuses: count only what is answered with one of these, such as failed logins: the limit is
            checked before, and charged after.
        :param ban: for who will not stop.
        :param shadow: refuse nobody, but tell `on_refusal`.
        :raises ConfigurationError: for what cannot be read or can never admit anything.
        """
        terms = Terms(
            name=name,
            key=key or self._key,
            cost=cost,
            burst=burst,
            algorithm=algorithm,
            exempt=exempt,
            statuses=statuses,
            ban=ban,
            shadow=shadow,
        )
        rule = RateLimit(self, limit, terms)
        self._rules.append(rule)
        return rule

    def concurrent(
        self,
        limit: int,
        *,
        name: str | None = None,
        key: Key | None = None,
        exempt: Test | None = None,
        lease: float = 15.0,
    ) -> RateLimit:
        """At most so many requests of a client at the same time, sockets for as long as they are open.

        :param lease: seconds after which what a process held that died is free again.
        """
        rate = Rate(count("limit", limit), seconds("lease", lease), "concurrent")
        terms = Terms(name=name, key=key or self._key, exempt=exempt, algorithm="concurrent")
        rule = RateLimit(self, rate, terms)
        self._rules.append(rule)
        return rule

    @property
    def is_open(self) -> bool:
        """Whether it can count; counters that do not say are open."""
        return self._disabled > 0 or getattr(self.counters, "is_open", True)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Nothing is counted and nobody refused inside; for tests and load tests."""
        self._disabled += 1
        try:
            yield
        finally:
            self._disabled -= 1

    async def peek(self, key: str) -> Decision:
        """What is left to an identity, by every limit made here."""
        return await look(self, self._rules, key)

    async def reset(self, key: str) -> None:
        """Forget what was counted for an identity, its bans too."""
        await forget(self, self._rules, key)

    async def weigh(
        self, rules: Sequence[Entry], connection: HTTPConnection, *, cost: int | None = None
    ) -> tuple[list[Demand], Decision]:
        """Weigh rules as one; each comes with the place in which it counts.

        :return: what was charged, in shadow too, and the decision of those that are not in shadow.
        """
        if self._disabled:
            return [], Decision(_NONE, ())
        demands: list[Demand] = []
        shadows: list[Demand] = []
        demand: Demand | None
        for rule, place in rules:
            identity: Any = rule.key(connection)
            if identity is not None and identity.__class__ is not str:
                identity = await value(identity)
            if rule.is_plain and cost is None:
                demand = rule.plain_demand(self.subject(identity), place)
            else:
                demand = await rule.demand(connection, identity, place, cost=cost)
                if demand is None:
                    continue
                if rule.terms.shadow:
                    if await self._fits_shadow(demand, connection):
                        shadows.append(demand)
                    continue
            demands.append(demand)
        return demands + shadows, await self.decide(demands, connection.scope)

    def plain_demands(self, rules: Sequence[Entry], identity: str | None) -> list[Demand]:
        """What rules want where nothing has to be asked or computed, and all count for the same."""
        if self._disabled:
            return []
        subject = self.subject(identity)
        return [rule.plain_demand(subject, place) for rule, place in rules]

    async def decide(self, demands: list[Demand], scope: Scope) -> Decision:
        """Weigh demands as one, in one round trip."""
        if len(demands) == 1:
            _, _, policies, charges = demands[0]
        else:
            policies = self._joined(tuple([demand.policies for demand in demands]))
            charges = tuple(charge for demand in demands for charge in demand.charges)
        try:
            decision = Decision(policies, await self.counters.weigh(*charges) if charges else ())
        except asyncio.CancelledError:
            self.leases.abandon(charges)
            raise
        if not decision.admitted:
            return await self._consequences.of(demands, decision, HTTPConnection(scope))
        return decision

    async def settle(self, demand: Demand, cost: int) -> list[Verdict]:
        """Charge what is known only afterwards, even beyond the limit; below 0 it is given back."""
        charge = demand.charges[0]
        return await self.counters.weigh(Charge(charge.subject, charge.limits, cost), force=True)

    def subject(self, identity: str | None) -> str:
        """The name under which an identity is counted.

        :raises ConfigurationError: for none, unless such requests share a budget.
        """
        if identity:
            return (self._digest if len(identity) <= _LONG else self._digest.__wrapped__)(identity)
        if self._without_key == "shared":
            return "-"
        raise ConfigurationError(
            "a request has no key to be limited by: name the unix socket or proxies in trusted_proxies=, let "
            "key= return something, or set without_key='shared'"
        )

    async def _fits_shadow(self, demand: Demand, connection: HTTPConnection) -> bool:
        verdicts = await self.counters.weigh(*demand.charges)
        if all(verdict.admitted for verdict in verdicts):
            return True
        self._consequences.tell(demand.rule, connection)
        return False
