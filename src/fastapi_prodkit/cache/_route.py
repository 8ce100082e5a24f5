"""A cached endpoint."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .._asgi import Place, layers
from .._fastapi import Route, hand_over, identities, iter_routes, matched, overridden
from ..errors import ConfigurationError
from ._arguments import Arguments
from ._engine import Engine
from ._entry import Entry
from ._http import Asked, cache_status, is_unchanged, not_modified
from ._identity import digest
from ._inputs import HANDED_OVER, Inputs
from ._options import Options
from ._slot import Slot, replay
from ._stamps import stamp_key
from ._storable import Capture
from ._ticket import Ticket

__all__ = ["CachedRoute", "prime"]

_RESPONSE = "prodkit_cache_response"


@dataclass(slots=True)
class _Plan:
    """What is known of one route before any request: made once."""

    route: Route
    name: str
    subject: tuple[str, ...]
    inputs: Inputs
    overrides: Any
    overridden: dict[Any, Inputs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
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
        self._plans: dict[int, _Plan] = {}

    def attach(self, app: Any, route: Route) -> None:
        """Learn a route that leads here.

        :raises ConfigurationError: if its answers cannot be cached.
        """
        self.engine.is_installed = True
        if route.dependant is None:
            return
        key = id(identities(route)[0])
        if key in self._plans:
            return
        path, query = (
            tuple(sorted(each.name for each in fields))
            for fields in (route.dependant.path_params, route.dependant.query_params)
        )
        self._plans[key] = _Plan(
            route,
            digest((self.options.namespace, self.arguments.name, route.context.path_format or "")),
            path or query,
            Inputs.of(route.dependant, shared=self.options.is_shared, vary=self.options.vary),
            getattr(route.context, "dependency_overrides_provider", None),
        )
        self.request_name, self.response_name = hand_over(
            route.dependant, request=HANDED_OVER, response=_RESPONSE
        )

    async def __call__(self, slot: Slot, kwargs: dict[str, Any]) -> Any:
        request: Request = kwargs[self.request_name]
        response: Response = kwargs[self.response_name]
        self._strip(kwargs)
        slot.spent = True
        plan = self._plans[id(matched(request.scope))]
        call = _Call(slot, request, response, kwargs, Asked(request.scope["headers"]), self._inputs(plan))
        if slot.refresh is not None:
            return await self._capture(call, slot.refresh)
        reason = self._bypass(call)
        if reason is not None:
            slot.note = cache_status(*reason)
            return await self._compute(kwargs)
        key, stamps = await self._key(plan, call)
        return await self._answer(call, key, stamps)

    async def unattached(self, kwargs: dict[str, Any]) -> Any:
        """FastAPI calls it, and no layer has prepared it: a route that is new, or no layer at all.

        :raises ConfigurationError: if no layer is installed.
        """
        if not self.engine.is_installed:
            raise ConfigurationError(
                f"{self.arguments.name} is cached, but the cache is not installed: "
                "app.add_middleware(CacheMiddleware)"
            )
        self._strip(kwargs)
        return await self._compute(kwargs)

    def _strip(self, kwargs: dict[str, Any]) -> None:
        kwargs.pop(HANDED_OVER, None)
        kwargs.pop(_RESPONSE, None)

    async def _answer(self, call: _Call, key: str, stamps: tuple[str, ...]) -> Any:
        engine, policy, control = self.engine, self.options.policy, call.asked.control
        if "only-if-cached" in control:
            found = await engine.find(key, stamps)
            if found.entry is None or not policy.is_fresh(found.entry, engine.clock()):
                return Response(status_code=504, headers={"cache-status": "prodkit; fwd=miss"})
            return self._hit(call, found.entry)
        if self.options.obeys_clients and self._is_forced(control):
            return await self._capture(call, await engine.afresh(key, stamps), fwd="request")
        outcome = await engine.obtain(key, stamps, policy)
        if outcome.entry is None:
            assert outcome.ticket is not None
            last = outcome.found.entry if outcome.found is not None else None
            fwd = "miss" if last is None else "stale"
            return await self._capture(call, outcome.ticket, last, fwd=fwd)
        if outcome.found is not None:
            ticket = engine.reserve_refresh(outcome.found, policy)
            if ticket is not None:
                body = await call.request.body() if call.inputs.has_body else b""
                engine.spawn(self._replay(call.slot, ticket, body))
        return self._hit(call, outcome.entry, collapsed=outcome.collapsed)

    async def _capture(
        self, call: _Call, ticket: Ticket, last: Entry | None = None, *, fwd: str = "miss"
    ) -> Any:
        """Compute the value and have the slot keep what FastAPI makes of it."""
        slot, options = call.slot, self.options
        slot.capture = Capture(
            ticket,
            options.policy,
            call.asked,
            call.response,
            list(call.response.raw_headers),
            options.max_bytes,
            call.inputs.vary(call.asked.credentials),
            call.inputs.selecting,
            options.cache_control(private=call.inputs.credentials and bool(call.asked.credentials)),
            options.draw_ttl(),
            f"fwd={fwd}",
        )
        saved = last if last is not None and options.policy.may_serve_on_error(last, ticket.now()) else None
        try:
            value = await self._compute(call.kwargs)
        except Exception as error:
            if saved is not None and getattr(error, "status_code", 500) >= 500:
                ticket.settle(saved)
                return self._hit(call, saved, failed=True)
            ticket.fail(error)
            slot.note = cache_status(slot.capture.fwd)
            raise
        if saved is not None and isinstance(value, Response) and value.status_code >= 500:
            ticket.settle(saved)
            return self._hit(call, saved, failed=True)
        slot.returned = value
        return value

    async def _replay(self, slot: Slot, ticket: Ticket, body: bytes) -> None:
        """Refresh an entry behind the request that was served it, unless another process does."""
        try:
            if await self.engine.lead(ticket, self.options.policy, wait=False) is None:
                await replay(slot, ticket, body)
        except Exception as error:
            self.engine.report(error)
        finally:
            await ticket.close()

    async def _compute(self, kwargs: dict[str, Any]) -> Any:
        return await self.options.call(self.arguments.function, (), kwargs)

    def _is_forced(self, control: dict[str, str | None]) -> bool:
        return "no-cache" in control or control.get("max-age") == "0"

    def _inputs(self, plan: _Plan) -> Inputs:
        """The inputs with `app.dependency_overrides` as they are now."""
        overrides = getattr(plan.overrides, "dependency_overrides", None)
        if not overrides:
            return plan.inputs
        state = tuple(overrides.items())
        known = plan.overridden.get(state)
        if known is None:
            assert plan.route.dependant is not None
            dependant = overridden(plan.route.dependant, overrides)
            known = Inputs.of(dependant, shared=self.options.is_shared, vary=self.options.vary)
            plan.overridden = {state: known}
        return known

    def _bypass(self, call: _Call) -> tuple[str, ...] | None:
        """Why this request is none of ours, in the words of RFC 9211."""
        options = self.options
        if options.is_disabled():
            return _bypass("disabled")
        if call.request.scope["method"] not in options.methods:
            return ("fwd=method",)
        if call.asked.range:
            return _bypass("range")
        if call.inputs.readers and not options.is_shared:
            return _bypass(f"{call.inputs.readers[0]} reads the raw request")
        if options.obeys_clients and "no-store" in call.asked.control:
            return ("fwd=request",)
        return None

    async def _key(self, plan: _Plan, call: _Call) -> tuple[str, tuple[str, ...]]:
        scope = call.request.scope
        parts = [
            plan.name,
            scope.get("root_path", "").removeprefix(scope.get("app_root_path", "")),
            str(call.response.status_code),
            *await call.inputs.values(call.request, call.asked.credentials),
        ]
        if self.arguments.key is not None:
            parts.append(self.arguments.key_identity(call.kwargs))
        stamps = self.options.stamp_keys(self.arguments, "route", plan.subject, call.kwargs)
        return f"cache:entry:{digest(parts)}", stamps

    def _hit(self, call: _Call, entry: Entry, *, collapsed: bool = False, failed: bool = False) -> Response:
        now = self.engine.clock()
        headers = list(entry.headers)
        if not entry.returned_response:
            headers += [pair for pair in call.response.raw_headers if pair[0] not in entry.hidden]
        headers += entry.extra
        headers.append((b"age", str(max(0, int(now - entry.created))).encode()))
        ttl = f"ttl={int(entry.expires - now)}"
        if failed:
            headers.append(cache_status("hit", ttl, 'detail="stale: computing failed"'))
        elif collapsed:
            headers.append(cache_status("fwd=miss", "collapsed", ttl))
        else:
            headers.append(cache_status("hit", ttl))
        if entry.status == 200 and is_unchanged(call.asked, headers):
            return _Stored(304, not_modified(headers), b"")
        return _Stored(entry.status, headers, entry.body)

    def stamps_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
        """The stamps to renew for these arguments; for none, that of the function.

        :raises ConfigurationError: if some of the arguments that name the resource are missing.
        """
        options, arguments = self.options, self.arguments
        whole = [stamp_key(options.namespace, kind, arguments.name) for kind in ("route", "function")]
        if not args and not kwargs:
            return whole
        bound = arguments.named(args, kwargs)
        keys = []
        for subject in {plan.subject for plan in self._plans.values()}:
            missing = [name for name in subject if name not in bound]
            if missing:
                raise ConfigurationError(
                    f"to invalidate {arguments.name} by its arguments, {missing[0]!r} is missing"
                )
            keys.append(options.subject_key(arguments, "route", subject, bound) if subject else whole[0])
        if arguments.key is not None or not set(arguments.values) <= bound.keys():
            keys.append(whole[1])
        else:
            keys.append(options.subject_key(arguments, "function", arguments.values, bound))
        return keys if self._plans else [whole[0], *keys]

    def check(self, app: Any, route: Route) -> None:
        """Object to a route that cannot work, when the app starts.

        :raises ConfigurationError: with the mend.
        """
        name = self.arguments.name
        if inspect.unwrap(route.endpoint) is not inspect.unwrap(self.wrapper):
            if self.arguments.injected:
                raise ConfigurationError(
                    f"the dependency {name} is cached but has dependencies of its own, which no key can "
                    "hold: cache what it computes from plain values instead"
                )
            return
        if route.endpoint is not self.wrapper:
            if route.endpoint is self.arguments.function and any(
                each.endpoint is self.wrapper for each in iter_routes(app.routes)
            ):
                return
            raise ConfigurationError(
                f"{route.path} does not reach its cache: put @cache directly above `def "
                f"{self.arguments.function.__name__}`, below @app.get and below every other decorator"
            )
        if route.dependant is None:
            raise ConfigurationError(
                f"{route.path} is no FastAPI path operation, so @cache cannot know what its answer depends "
                "on: declare it with @app.get"
            )
        if not route.methods & self.options.methods:
            raise ConfigurationError(
                f"@cache on {'/'.join(sorted(route.methods)) or 'WebSocket'} {route.path} keeps nothing: "
                "it caches GET; for another method say so, as in methods=['POST']"
            )
        if not any(getattr(each, "place", None) is Place.CACHE for each in layers(app.middleware_stack)):
            raise ConfigurationError(
                f"{route.path} is cached, but the cache is not installed: app.add_middleware(CacheMiddleware)"
            )
        self.attach(app, route)


def _bypass(reason: str) -> tuple[str, ...]:
    return "fwd=bypass", f'detail="{reason}"'


class _Stored(Response):
    """A stored response, made anew for each request: FastAPI writes to what an endpoint returns."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code = status
        self.raw_headers = headers
        self.body = body
        self.background = None


def prime(app: Any) -> None:
    """Let every cached endpoint of `app` learn its routes."""
    for route in iter_routes(app.routes):
        cached = getattr(route.endpoint, "__prodkit_cached__", None)
        if isinstance(cached, CachedRoute) and cached.wrapper is route.endpoint:
            cached.attach(app, route)
