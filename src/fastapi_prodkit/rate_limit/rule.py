"""One rate limit of an app: what `limiter("100/minute")` returns, and what a route depends on."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import HTTPConnection

from .._asgi import layers
from .._fastapi import Route, iter_routes, mounted_apps
from ..errors import ConfigurationError
from ..typing import Charge, Limit
from .bound import bind
from .decision import Decision
from .grammar import Rate, parse
from .inspection import forget, look
from .plans import Plan, Plans
from .policy import Policies, Policy, ban_policy, digest, policies
from .reservation import Reservation
from .terms import Terms, units, value

if TYPE_CHECKING:
    from .limiter import RateLimiter

__all__ = ["SLOT", "Demand", "RateLimit"]

SLOT = "fastapi_prodkit.rate_limit"

_NOT_INSTALLED = (
    "add `app.add_middleware(RateLimitMiddleware)`, which puts the RateLimit headers on every response and "
    "refuses before a body is read"
)
_UNNAMED = "a limit that no route depends on has no route to count by: give it a name="


class Demand(NamedTuple):
    """What one rule wants of a request."""

    rule: RateLimit
    place: str
    policies: Policies
    charges: tuple[Charge, ...]


_demand = partial(tuple.__new__, Demand)  # of a tuple, at half of what calling a NamedTuple costs
_charge = partial(tuple.__new__, Charge)


class RateLimit:
    """A dependency that charges its request and refuses it with 429. Made by a `RateLimiter`."""

    def __init__(self, limiter: RateLimiter, limit: str | Plan | Rate, terms: Terms) -> None:
        self.limiter = limiter
        self.terms = terms
        self.key = terms.key
        self._cost = terms.cost if isinstance(terms.cost, int) else 1
        self.refused = 0
        """How many requests it refused here; in shadow, would have refused."""
        self.places: set[str] = set() if terms.name is None else {self._named()}
        """Where it counts, as far as is known: its routes are once the app has started."""
        self._plans: Plans | None = None
        self._rates: tuple[Rate, ...] = ()
        self._static: dict[str, Policies] = {}
        if isinstance(limit, str):
            self.change(limit)
        elif isinstance(limit, Rate):
            self._rates = (limit,)
        elif callable(limit):
            self._plans = Plans(limit, terms.check, clock=limiter.clock)
        else:
            raise ConfigurationError(f"limit={limit!r}: write it as '100/minute', or give a function")
        self._policies: dict[tuple[str, tuple[Rate, ...]], Policies] = {}
        self.is_plain = (
            self._plans is None
            and isinstance(terms.cost, int)
            and terms.exempt is None
            and terms.statuses is None
            and terms.ban is None
            and terms.algorithm != "concurrent"
            and not terms.shadow
        )

    def change(self, limit: str) -> None:
        """Put another limit in force from the next request on. What was counted by the same window stays
        counted: nobody is forgiven and nobody is locked out.

        :raises ConfigurationError: for one that cannot hold; the old one stays.
        """
        if self._plans is not None or self.terms.algorithm == "concurrent":
            raise ConfigurationError(
                "change() puts one rate in the place of another: a plan changes by what its function "
                "returns, and what may run at the same time stays as it was made"
            )
        rates = parse(limit)
        self.terms.check(rates)
        self._rates = rates
        self._static = {}

    async def __call__(self, connection: HTTPConnection) -> Decision:
        """The dependency.

        :raises ProblemError: 429, if a limit of the route is used up.
        """
        exchange = connection.scope.get(SLOT)
        if exchange is None:
            raise ConfigurationError(_NOT_INSTALLED)
        decision: Decision = await exchange.decide(self, connection)
        return decision

    def __prodkit_reads__(self, connection: HTTPConnection) -> str:
        """What an answer may depend on of what it reads: nothing. It lets pass or refuses."""
        return ""

    async def hit(self, connection: HTTPConnection, *, cost: int | None = None) -> Decision:
        """Charge without refusing, such as for each message of a socket. The limit needs a name.

        :param cost: in place of the rule's own.
        """
        self._takes_hits()
        _, decision = await self.limiter.weigh([(self, self._named())], connection, cost=cost)
        return decision

    def reserve(self, connection: HTTPConnection, cost: int) -> Reservation:
        """Charge an estimate now and what it came to afterwards. The limit needs a name.

            async with tokens.reserve(connection, 500) as reservation:
                reservation.settle(await answer())

        :raises ProblemError: 429 on entering, if the estimate does not fit.
        """
        self._takes_hits()
        return Reservation(self, self._named(), connection, cost, connection.scope.get(SLOT))

    async def peek(self, key: str) -> Decision:
        """What is left to an identity, of every route that the limit holds for."""
        return await look(self.limiter, (self,), key)

    async def reset(self, key: str) -> None:
        """Forget what was counted for an identity, its bans too."""
        await forget(self.limiter, (self,), key)

    def __prodkit_check__(self, app: Any, route: Route) -> None:
        inner = (each for each in mounted_apps(app) if _leads_to(each, route))
        if not any(_is_limited(each) for each in (app, *inner)):
            raise ConfigurationError(f"{route.path} has a rate limit: {_NOT_INSTALLED}")
        for method in route.methods or {"WS"}:
            bind(route, method)

    def __prodkit_open__(self) -> bool:
        return self.limiter.is_open

    def place(self, route: str, ordinal: int) -> str:
        """Where it counts on a route, of which it is the so manyeth nameless limit."""
        if self.terms.name is not None:
            return self._named()
        place = route if ordinal == 0 else f"{route}#{ordinal + 1}"
        self.places.add(place)
        return place

    def policies(self, place: str, rates: tuple[Rate, ...]) -> Policies:
        found = self._policies.get((place, rates))
        if found is None:
            if len(self._policies) > 10_000:  # plans that are never the same twice
                self._policies.clear()
            found = self._policies[place, rates] = policies(rates, place=place, terms=self.terms)
        return found

    def plain_demand(self, subject: str, place: str) -> Demand:
        """`demand` where nothing has to be asked or computed."""
        found = self._static.get(place)
        if found is None:
            found = self._static[place] = self.policies(place, self._rates)
        return _demand((self, place, found, (_charge((subject, found.limits, self._cost, False, "")),)))

    async def demand(
        self, connection: HTTPConnection, identity: str | None, place: str, *, cost: int | None = None
    ) -> Demand | None:
        """Who is to be charged how much by which policies; `None` for who is exempt."""
        terms = self.terms
        if terms.exempt is not None and await value(terms.exempt(connection)):
            return None
        subject = self.limiter.subject(identity)
        rates = self._rates if self._plans is None else await self._plans.of(identity or "")
        if cost is None:
            cost = terms.cost if isinstance(terms.cost, int) else await value(terms.cost(connection))
        cost = units(cost)
        found = self.policies(place, rates)
        token = secrets.token_urlsafe(9) if terms.algorithm == "concurrent" else ""
        charge = Charge(subject, found.limits, cost, terms.statuses is not None, token)
        charges: tuple[Charge, ...] = (charge,)
        if terms.ban is not None:
            ban = ban_policy(terms.ban, place=place, name=terms.name)
            found = Policies.join((found, ban))
            charges += (Charge(subject, ban.limits, 1, dry=True),)
        return Demand(self, place, found, charges)

    async def known(self, identity: str) -> list[Policy]:
        """The policies by which an identity may have been counted."""
        rates = self._rates if self._plans is None else await self._plans.of(identity)
        found = [policy for place in self.places for policy in self.policies(place, rates).items]
        ban = self.terms.ban
        if ban is not None:
            for place in self.places:
                found += ban_policy(ban, place=place, name=self.terms.name).items
        return found

    def ban_limits(self) -> list[Limit]:
        ban = self.terms.ban
        return (
            []
            if ban is None
            else [each for place in self.places for each in ban.limits(digest(place, size=6))]
        )

    def _takes_hits(self) -> None:
        if self.terms.algorithm == "concurrent":
            raise ConfigurationError(
                "a limit on what runs at the same time is for whole requests: use Depends"
            )
        if self.terms.statuses is not None:
            raise ConfigurationError("a limit by what is answered is for whole requests: use Depends")

    def _named(self) -> str:
        if self.terms.name is None:
            raise ConfigurationError(_UNNAMED)
        return f"name {self.terms.name}"


def _leads_to(app: Any, route: Route) -> bool:
    return any(each.endpoint is route.endpoint for each in iter_routes(app.routes))


def _is_limited(app: Any) -> bool:
    """Whether the middleware is in the stack of `app`, or will be once that is built."""
    entries = [*layers(app.middleware_stack), *(each.cls for each in app.user_middleware)]
    return any(hasattr(each, "limits_requests") for each in entries)
