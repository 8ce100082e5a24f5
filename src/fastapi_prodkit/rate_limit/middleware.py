"""Puts limits where nothing gets past them, and their headers on every response."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._asgi import Place, lifespan_checked, sink
from .._fastapi import Route, RouteTable, check_routes, dependants
from .decision import Decision
from .fields import fields
from .rule import SLOT, RateLimit

__all__ = ["RateLimitMiddleware"]


class RateLimitMiddleware:
    """Install it once: `app.add_middleware(RateLimitMiddleware)`.

    It adds the RateLimit headers to whatever is answered, and weighs a route's limits before its body is
    read, so that a body which is malformed or too large is counted, and is not read once the quota is gone.

    :param legacy_headers: send `X-RateLimit-Limit`, `-Remaining` and `-Reset` as well.
    """

    def __init__(self, app: ASGIApp, *, legacy_headers: bool = False) -> None:
        self.app = sink(app, _Layer(app, legacy_headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class _Layer:
    place = Place.LIMITS
    limits_requests = True

    def __init__(self, app: ASGIApp, legacy_headers: bool) -> None:
        self.app = app
        self.legacy_headers = legacy_headers
        self._routes: RouteTable | None = None
        self._rules: dict[int, tuple[Route, tuple[RateLimit, ...]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_checked(self.app, scope, receive, send, check_routes)
            return
        if self._routes is None:
            self._routes = RouteTable(scope["app"])
        exchange = _Exchange(self, scope, receive, send)
        scope[SLOT] = exchange
        await self.app(scope, exchange.receive, exchange.send)

    def find(self, scope: Scope) -> tuple[str, tuple[RateLimit, ...]]:
        """The scope of the route that serves this, and its rules; none before the router has matched."""
        assert self._routes is not None
        route = self._routes.find(scope)
        if route is None:
            return "", ()
        known = self._rules.get(id(route))
        if known is None or known[0] is not route:
            known = self._rules[id(route)] = (route, _rules(route))
        return f"{scope.get('method', 'WS')} {route.path}", known[1]


class _Exchange:
    """One request: what was decided about it, by what has run so far."""

    __slots__ = ("_decided", "_decisions", "_layer", "_receive", "_scope", "_send")

    def __init__(self, layer: _Layer, scope: Scope, receive: Receive, send: Send) -> None:
        self._layer = layer
        self._scope = scope
        self._receive = receive
        self._send = send
        self._decided: dict[RateLimit, Decision] = {}
        self._decisions: list[Decision] = []

    async def receive(self) -> Message:
        """The router reads a body before it runs dependencies; the limits come first."""
        if not self._decided and self._scope["type"] == "http":
            scope, rules = self._layer.find(self._scope)
            if rules:
                await self._weigh(rules, scope, HTTPConnection(self._scope))
        return await self._receive()

    async def decide(self, rule: RateLimit, connection: HTTPConnection) -> Decision:
        """What was decided for this rule, together with the others of its route.

        :raises ProblemError: if a limit is used up.
        """
        if rule not in self._decided:
            scope, rules = self._layer.find(self._scope)
            await self._weigh(rules if rule in rules else (rule,), scope, connection)
        return self._decided[rule]

    async def _weigh(self, rules: tuple[RateLimit, ...], scope: str, connection: HTTPConnection) -> None:
        replaced = self._scope["app"].dependency_overrides
        active = [rule for rule in rules if rule not in replaced and rule not in self._decided]
        for limiter in dict.fromkeys(rule.limiter for rule in active):
            own = [rule for rule in active if rule.limiter is limiter]
            decision = await limiter.decide([(rule, scope) for rule in own], connection)
            self._decisions.append(decision)
            self._decided.update(dict.fromkeys(own, decision))
            if not decision.admitted:
                raise decision.refusal()

    async def send(self, message: Message) -> None:
        if self._decisions and message["type"] in _STARTS:
            added = fields(self._decisions, legacy=self._layer.legacy_headers)
            message["headers"] = [*message.get("headers", ()), *added]
        await self._send(message)


_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def _rules(route: Route) -> tuple[RateLimit, ...]:
    if route.dependant is None:
        return ()
    calls: list[Any] = [each.call for each in dependants(route.dependant)]
    return tuple(dict.fromkeys(call for call in calls if isinstance(call, RateLimit)))
