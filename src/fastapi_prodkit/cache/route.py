"""A cached endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from .._fastapi import Route, identities, matched, scope_around
from .._grafts import hand_over
from ..errors import ConfigurationError, status_of
from .answer import answer, collapsed, in_spite_of_failure
from .arguments import Arguments
from .bypass import bypass, why_not
from .checks import is_checked
from .engine import Engine, Found
from .entry import Entry
from .http import Asked, Pair, cache_status
from .inputs import HANDED_OVER, Inputs, body_of, is_unrepeatable
from .options import Options
from .plan import Plan
from .policy import Policy
from .priming import prime
from .renewal import stamps_to_renew
from .slot import SLOT, Slot, replay
from .storable import Capture
from .ticket import Ticket, Waiting

__all__ = ["CachedRoute"]

_RESPONSE = "prodkit_cache_response"


@dataclass(slots=True)
class _Call:
    """One request at the endpoint."""

    slot: Slot
    request: Request
    response: Response
    kwargs: dict[str, Any]
    asked: Asked
    inputs: Inputs


class CachedRoute:
    """Answers for an endpoint: with what is stored, or by calling it and having its response captured."""

    def __init__(self, engine: Engine, arguments: Arguments, options: Options, wrapper: Any) -> None:
        self.engine = engine
        self.arguments = arguments
        self.options = options
        self.wrapper = wrapper
        self.request_name = HANDED_OVER
        self.response_name = _RESPONSE
        self._plans: dict[int, Plan] = {}
        self._refused: dict[int, tuple[Route, str]] = {}

    def attach(self, route: Route) -> None:
        """Learn a route that leads here.

        :raises ConfigurationError: if its answers cannot be cached.
        """
        if route.dependant is None:
            return
        key = id(identities(route)[0])
        if key not in self._plans:
            self._plans[key] = Plan(route, self.arguments, self.options)
            self.request_name, self.response_name = hand_over(
                route.dependant, request=HANDED_OVER, response=_RESPONSE
            )

    def attach_later(self, route: Route) -> None:
        """Learn a route while requests are answered: if it cannot be cached, those to it alone are told."""
        try:
            self.attach(route)
        except ConfigurationError as error:
            self._refused[id(identities(route)[0])] = route, str(error)

    async def __call__(self, slot: Slot, plan: Plan, kwargs: dict[str, Any]) -> Any:
        request: Request = kwargs[self.request_name]
        response: Response = kwargs[self.response_name]
        self._strip(kwargs)
        slot.spent = True
        scope = request.scope
        inputs = plan.inputs_now()
        asked = Asked(scope)
        if slot.refresh is not None:
            call = _Call(slot, request, response, kwargs, asked, inputs)
            return await self._fill(call, plan, slot.refresh)
        reason = why_not(self.options, scope["method"], inputs, asked)
        if plan.route.behind not in (None, slot.original["app"]):
            reason = bypass("the mounted app has middleware: add CacheMiddleware to it")
        if reason is not None:
            slot.note = cache_status(*reason)
            return await self._compute(kwargs)
        body = await body_of(request) if inputs.has_body else None
        key, stamps = plan.key(inputs, request, asked, response, kwargs, body), plan.stamps(kwargs)
        if plan.has_lane and slot.lane is not None and not asked.credentials:
            slot.lane.learn(scope, key, stamps, self.engine, self.options)
        engine, found, policy = self.engine, slot.found, self.options.policy
        if found is None or found.key != key:
            found = await engine.find(key, stamps)
        if asked.control:
            if self.options.is_overruled(asked.control):
                return await self._controlled(_Call(slot, request, response, kwargs, asked, inputs), found)
            policy = self.options.policy_for(asked.control)
        now = engine.clock()
        if found.entry is not None and policy.is_plainly_fresh(found.entry, now):
            return answer(found.entry, asked, now, response.raw_headers)
        if scope["method"] == "HEAD":  # some responses to it have no content to keep for a GET
            slot.note = cache_status("fwd=miss")
            return await self._compute(kwargs)
        return await self._answer(_Call(slot, request, response, kwargs, asked, inputs), found, policy)

    def plan_of(self, kwargs: Mapping[str, Any]) -> Plan | None:
        """The plan of the route that was matched; `None` where that has none, or where this is not the
        endpoint of the request but called by another that hands its request on.
        """
        if self.response_name not in kwargs:
            return None
        return self._plans.get(id(matched(kwargs[self.request_name].scope)))

    def knows(self, scope: Scope) -> bool:
        """Whether the route that was matched is one it has learned."""
        return id(matched(scope)) in self._plans

    async def unattached(self, kwargs: dict[str, Any]) -> Any:
        """FastAPI calls it, and no layer has prepared it: by a route new or built anew, or there is no layer.

        :raises ConfigurationError: if no layer is installed, or the answers of the route cannot be cached.
        """
        scope = scope_around() or {}
        slot: Slot | None = scope.get(SLOT)
        if slot is None:
            raise ConfigurationError(
                f"{self.arguments.name} is cached, but the cache is not installed: "
                "app.add_middleware(CacheMiddleware)"
            )
        slot.spent = True
        key = id(matched(scope))
        if key not in self._plans and key not in self._refused:
            prime(slot.original["app"])
        if key in self._refused:
            raise ConfigurationError(self._refused[key][1])
        self._strip(kwargs)
        return await self._compute(kwargs)

    def _strip(self, kwargs: dict[str, Any]) -> None:
        kwargs.pop(HANDED_OVER, None)
        kwargs.pop(_RESPONSE, None)

    async def _controlled(self, call: _Call, found: Found) -> Any:
        """Answer a client that wants it from the store alone, or not from the store."""
        engine = self.engine
        if "only-if-cached" in call.asked.control:
            entry, now = found.entry, engine.clock()
            if entry is None or not self.options.policy_for(call.asked.control).is_fresh(entry, now):
                return Response(status_code=504, headers={"cache-status": "prodkit; fwd=miss"})
            return answer(entry, call.asked, now, call.response.raw_headers)
        if call.request.method == "HEAD":
            call.slot.note = cache_status("fwd=request")
            return await self._compute(call.kwargs)
        return await self._capture(call, await engine.afresh(found), fwd="request")

    async def _answer(self, call: _Call, found: Found | None, policy: Policy) -> Any:
        """Answer where what was found will not do as it is."""
        engine = self.engine
        if cannot_be_replayed := is_unrepeatable(call.request):
            policy = policy.without_refreshes
        assert found is not None
        try:
            outcome = await engine.obtain(found.key, found.stamp_keys, policy, found)
        except Exception:
            call.slot.note = cache_status("fwd=miss", "collapsed")
            raise
        entry, found, now = outcome.entry, outcome.found, engine.clock()
        if entry is None:
            assert outcome.ticket is not None
            last = found.entry if found is not None else None
            return await self._capture(call, outcome.ticket, last, fwd=self._why(last, now))
        if found is not None and not (cannot_be_replayed or policy.is_plainly_fresh(entry, now)):
            await self._refresh(call, found)
        status = collapsed(entry, now) if outcome.collapsed else None
        return answer(entry, call.asked, now, call.response.raw_headers, status=status)

    def _why(self, last: Entry | None, now: float) -> str:
        """Why an answer is computed, in the words of RFC 9211."""
        if last is None:
            return "miss"
        return "request" if self.options.policy.is_fresh(last, now) else "stale"

    async def _refresh(self, call: _Call, found: Found) -> None:
        """Have an entry refreshed behind this request, if it is its turn."""
        ticket = self.engine.reserve_refresh(found, self.options.policy)
        if ticket is not None:
            has_body = call.inputs.has_body or call.request.method not in ("GET", "HEAD")
            body = await call.request.body() if has_body else b""
            self.engine.spawn(self._replay(call.slot, ticket, body))

    async def _fill(self, call: _Call, plan: Plan, ticket: Ticket) -> Any:
        """Compute what a refresh is for, unless dependencies say by now that it is for somebody else."""
        body = await body_of(call.request) if call.inputs.has_body else None
        key = plan.key(call.inputs, call.request, call.asked, call.response, call.kwargs, body)
        if (key, plan.stamps(call.kwargs)) != (ticket.found.key, ticket.found.stamp_keys):
            return Response()
        return await self._capture(call, ticket)

    async def _capture(
        self, call: _Call, ticket: Ticket, last: Entry | None = None, *, fwd: str = "miss"
    ) -> Any:
        """Compute the value and have the slot keep what FastAPI makes of it."""
        slot, options, before = call.slot, self.options, list(call.response.raw_headers)
        slot.capture = Capture(
            ticket,
            options.policy,
            call.asked,
            call.response,
            before,
            options.max_bytes,
            call.inputs.vary(call.asked.credentials),
            call.inputs.selecting,
            options.cache_control(private=call.inputs.is_personal(call.request, call.asked.credentials)),
            options.draw_ttl(),
            f"fwd={fwd}",
        )
        saved = last if last is not None and options.policy.may_serve_on_error(last, ticket.now()) else None
        try:
            value = await self._compute(call.kwargs)
        except Exception as error:
            if saved is not None and status_of(error) >= 500:
                ticket.settle(saved)
                return self._saved(call, saved, before)
            ticket.fail(error)
            slot.note = cache_status(slot.capture.fwd)
            raise
        answered = value if isinstance(value, Response) else call.response
        if (answered.status_code or 200) >= 500:
            if saved is not None:
                ticket.settle(saved)
                return self._saved(call, saved, before)
            if slot.refresh is not None:
                ticket.settle(Waiting.AGAIN)
        slot.returned = value
        return value

    async def _replay(self, slot: Slot, ticket: Ticket, body: bytes) -> None:
        """Answer the request again for the entry's sake, unless another process does."""
        try:
            if await self.engine.lead(ticket, self.options.policy, wait=False) is None:
                await replay(slot, ticket, body)
        except Exception as error:
            self.engine.report(error)
        finally:
            await ticket.close()

    def _saved(self, call: _Call, entry: Entry, before: list[Pair]) -> Response:
        now = self.engine.clock()
        status = in_spite_of_failure(entry, now)
        return answer(entry, call.asked, now, before, status=status)

    def _compute(self, kwargs: dict[str, Any]) -> Awaitable[Any]:
        return self.arguments.call((), kwargs)

    def stamps_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
        """The stamps to renew for these arguments; for none, that of the function."""
        return stamps_to_renew(self._plans.values(), self.arguments, self.options, args, kwargs)

    def check(self, app: Any, route: Route) -> None:
        """Object to a route that cannot work, when the app starts.

        :raises ConfigurationError: with the mend.
        """
        if is_checked(app, route, self.wrapper, self.arguments, self.options):
            self.attach(route)
