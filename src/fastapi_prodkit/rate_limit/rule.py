"""One rate limit of an app: what `limiter("100/minute")` returns, and what a route depends on."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from .._asgi import layers
from .._fastapi import Route
from ..errors import ConfigurationError
from ..typing import Algorithm, Charge
from .decision import Decision
from .grammar import parse
from .keys import Key
from .policy import Policy, policies

if TYPE_CHECKING:
    from .limiter import RateLimiter

__all__ = ["SLOT", "Cost", "RateLimit"]

_NAME = re.compile(r"[ !#-\[\]-~]+")  # an RFC 9651 string that needs no escapes

SLOT = "fastapi_prodkit.rate_limit"

Cost = int | Callable[[HTTPConnection], int | Awaitable[int]]
Test = Callable[[HTTPConnection], bool | Awaitable[bool]]


class RateLimit:
    """A dependency that charges its request and refuses it with 429. Made by a `RateLimiter`."""

    def __init__(
        self,
        limiter: RateLimiter,
        rates: str,
        *,
        name: str | None,
        key: Key,
        cost: Cost,
        burst: int | None,
        algorithm: Algorithm,
        exempt: Test | None,
    ) -> None:
        self.limiter = limiter
        self.name = name
        self.key = key
        self.cost = cost
        self.exempt = exempt
        self._rates = parse(rates)
        self._burst = burst
        self._algorithm = algorithm
        self._policies: dict[str, tuple[Policy, ...]] = {}
        _check(self.policies(""), name, cost, burst, algorithm)

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

    def __prodkit_check__(self, app: Any, route: Route) -> None:
        if not any(hasattr(layer, "limits_requests") for layer in layers(app.middleware_stack)):
            raise ConfigurationError(f"{route.path} has a rate limit: {_NOT_INSTALLED}")

    def policies(self, scope: str) -> tuple[Policy, ...]:
        """What holds in a scope, such as `GET /items/{item_id}`; a named budget has one scope for all."""
        place = f"name {self.name}" if self.name is not None else scope
        known = self._policies.get(place)
        if known is None:
            known = self._policies[place] = policies(
                self._rates, scope=place, name=self.name, burst=self._burst, algorithm=self._algorithm
            )
        return known

    async def charge(
        self, connection: HTTPConnection, scope: str
    ) -> tuple[tuple[Policy, ...], Charge] | None:
        """Who is to be charged how much by which policies; `None` for who is exempt."""
        if self.exempt is not None and await _value(self.exempt(connection)):
            return None
        identity = self.key(connection)
        if identity is not None and not isinstance(identity, str):
            identity = await identity
        cost = self.cost if isinstance(self.cost, int) else await _value(self.cost(connection))
        found = self.policies(scope)
        subject = self.limiter.subject(identity)
        return found, Charge(subject, tuple(policy.limit for policy in found), cost)


_NOT_INSTALLED = (
    "add `app.add_middleware(RateLimitMiddleware)`, which puts the RateLimit headers on every response and "
    "refuses before a body is read"
)


async def _value(given: Any) -> Any:
    return given if isinstance(given, int) else await given


def _check(
    found: tuple[Policy, ...], name: str | None, cost: Cost, burst: int | None, algorithm: Algorithm
) -> None:
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"name={name!r} cannot stand in a header: use printable ASCII without quotes"
        )
    if burst is not None and (burst < 1 or algorithm != "gcra"):
        raise ConfigurationError(f"burst={burst!r}: give at least 1, and only with algorithm='gcra'")
    if algorithm not in ("gcra", "sliding", "moving"):
        raise ConfigurationError(f"algorithm={algorithm!r}: use 'gcra', 'sliding' or 'moving'")
    if isinstance(cost, int):
        least = min(policy.limit.capacity for policy in found)
        if not 0 <= cost <= least:
            raise ConfigurationError(
                f"cost={cost!r} never fits: give 0 to {least}, or raise the limit or burst"
            )
