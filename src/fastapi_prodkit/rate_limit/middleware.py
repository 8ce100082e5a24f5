"""Puts limits where nothing gets past them, and their headers on every response."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from .._arguments import instance
from .._asgi import Place, layers, lifespan_checked, place_of, sink
from .._fastapi import Route, iter_routes, overridden
from .._grafts import put_ahead
from .._routes import RouteTable
from .._startup import check_open, check_routes, require_open
from ..errors import ConfigurationError, ProblemError
from .bound import Bound, bind, check_names, leading
from .exchange import Exchange
from .openapi import document
from .refusals import Refusals
from .rule import SLOT, RateLimit
from .server import warn_of_trust

__all__ = ["RateLimitMiddleware"]


class RateLimitMiddleware:
    """Install it once: `app.add_middleware(RateLimitMiddleware)`.

    It adds the RateLimit headers to whatever is answered, and weighs a route's limits before its body is
    read, so that a body which is malformed or too large is counted, and is not read once the quota is gone.

    :param limits: hold for every request, before a route is looked for: for those that match none and for
        mounted apps too. Each needs a name.
    :param legacy_headers: send `X-RateLimit-Limit`, `-Remaining` and `-Reset` as well.
    """

    place = Place.DOORWAY
    limits_requests = True

    def __init__(
        self, app: ASGIApp, *, limits: Sequence[RateLimit] = (), legacy_headers: bool = False
    ) -> None:
        instance("limits", limits, Sequence, "give a list of limits")
        for rule in limits:
            instance("limits", rule, RateLimit, 'make each with limiter("100/minute", name=...)')
        if any(rule.terms.name is None for rule in limits):
            raise ConfigurationError(
                "limits=: a limit of the whole app has no route to count by: give it a name="
            )
        if len({rule.terms.name for rule in limits}) < len(limits):
            raise ConfigurationError("limits=: two limits have one name, and so one count: name them apart")
        if limits and any(place_of(layer) is Place.GATE for layer in layers(app)):
            raise ConfigurationError("RateLimitMiddleware is installed once: give all limits= to that one")
        refusals = Refusals()
        everywhere = Bound([(rule, rule.place("", 0)) for rule in limits]) if limits else None
        app = sink(app, _Gate(app, everywhere, refusals))
        self.app = sink(app, _Layer(app, everywhere, refusals, legacy_headers))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.app(scope, receive, send)


class _Layer:
    place = Place.LIMITS
    limits_requests = True

    def __init__(
        self, app: ASGIApp, everywhere: Bound | None, refusals: Refusals, legacy_headers: bool
    ) -> None:
        self.app = app
        self._everywhere = everywhere
        self.refusals = refusals
        self.legacy_headers = legacy_headers
        self._routes: RouteTable | None = None
        self._bound: dict[tuple[int, str], tuple[Route, Bound]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._routes is None:
            self._begin(scope["app"])
        if scope["type"] == "lifespan":
            await lifespan_checked(self._checked, scope, receive, send, check_routes)
            return
        around = scope.get(SLOT)  # of an app in which this one is mounted
        exchange = Exchange(scope, receive, send, self)
        scope[SLOT] = exchange
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception:
            await exchange.fail()
            raise
        finally:
            if exchange.held:
                await exchange.release()
            del scope[SLOT]  # a cycle of both would be left to the garbage collector, request by request
            if around is not None:
                scope[SLOT] = around

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """After the checks, in which a cache still adds to what its routes are called with."""
        await lifespan_checked(self.app, scope, receive, send, self._prepare, then=self._check_open)

    def _check_open(self, app: Any) -> None:
        check_open(app)
        rules = frozenset() if self._everywhere is None else self._everywhere.rules
        for rule in rules.difference(getattr(app, "dependency_overrides", ())):
            require_open(f"RateLimitMiddleware(limits=[...{rule.terms.name!r}])", rule)

    def _prepare(self, app: Any) -> None:
        for route in iter_routes(app.routes):
            if self._everywhere is not None:
                check_names(route, self._everywhere)
            count = leading(route)
            if count:
                put_ahead(route, count, partial(_Ahead, route, app.router))

    def _begin(self, app: Any) -> None:
        warn_of_trust()
        self._routes = RouteTable(app)
        document(app, everywhere=self._everywhere is not None)

    def template(self, scope: Scope) -> str:
        assert self._routes is not None
        return f"{scope.get('method', 'WS')} {self._routes.template(scope)} (called)"

    def find(self, scope: Scope) -> Bound | None:
        assert self._routes is not None
        route = self._routes.find(scope)
        if route is None:
            return None
        method = scope.get("method", "WS")
        overrides = getattr(scope["app"], "dependency_overrides", None)
        if overrides and route.dependant is not None:
            bound = bind(replace(route, dependant=overridden(route.dependant, overrides)), method)
            bound.is_early = False
            return bound if bound.groups else None
        known = self._bound.get((id(route), method))
        if known is None or known[0] is not route:
            known = self._bound[id(route), method] = (route, bind(route, method))
            known[1].is_early = known[1].is_early and route.is_plain
        return known[1] if known[1].groups else None


class _Ahead:
    """Weighs the rules that a route depends on first, while nobody overrides a dependency.

    :param router: the first that a request comes to, unless the app is mounted and its path a longer one.
    """

    def __init__(self, route: Route, router: ASGIApp, whole: ASGIApp, rest: ASGIApp) -> None:
        self._bound = {method: bind(route, method) for method in route.methods}
        self._router = router
        self._whole = whole
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope.get(SLOT)
        bound = self._bound.get(scope["method"])
        if (
            exchange is None
            or bound is None
            or scope.get("router") is not self._router
            or getattr(scope["app"], "dependency_overrides", None)
        ):
            await self._whole(scope, receive, send)
            return
        await exchange.weigh_ahead(bound)
        await self._rest(scope, receive, send)


class _Gate:
    """Inside the exception handlers, so that they answer what is refused before the router."""

    place = Place.GATE

    def __init__(self, app: ASGIApp, everywhere: Bound | None, refusals: Refusals) -> None:
        self.app = app
        self._everywhere = everywhere
        self._refusals = refusals

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._everywhere is not None or self._refusals:
            return self._weighed(scope, receive, send)
        return self.app(scope, receive, send)

    async def _weighed(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope.get(SLOT)
        if exchange is not None:
            connection = HTTPConnection(scope)
            if self._refusals and scope["type"] == "http":
                refused = await self._refusals.find(scope, connection)
                if refused is not None and refused.bound is not self._everywhere:
                    try:
                        await exchange.weigh(refused.bound, connection)
                    except ProblemError:
                        scope.update(refused.marks)  # for who tells outside which route it was
                        raise
            if self._everywhere is not None:
                await exchange.weigh(self._everywhere, connection)
        await self.app(scope, receive, send)
