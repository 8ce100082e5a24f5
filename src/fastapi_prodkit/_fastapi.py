"""What FastAPI keeps private, read here and nowhere else.

Since FastAPI 0.137 `include_router(prefix=)` is lazy and `scope["route"].path` lacks the prefix; the truth is
in the "effective route context" of the scope, which is private, plus the prefixes of the mounts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ForwardRef, get_args

from fastapi import exception_handlers
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _get_param_aliases, _get_param_model, get_dependant
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from pydantic import AliasPath
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Host, Mount, WebSocketRoute, compile_path
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Scope

from ._asgi import layers
from .errors import ConfigurationError

__all__ = [
    "Route",
    "RouteTable",
    "app_of",
    "around_router",
    "called_by_framework",
    "check_routes",
    "default_handlers",
    "dependants",
    "field_names",
    "hand_over",
    "identities",
    "is_plain",
    "is_signal",
    "iter_routes",
    "let_413_pass",
    "matched",
    "mounted_apps",
    "overridden",
    "report_to_telemetry",
    "scope_around",
]


def _private(module: str, name: str) -> Any:
    """Something that newer versions have, older ones do not and coming ones may move."""
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


_SIGNALS = tuple(filter(None, [_private("starlette.middleware.body_limit", "_RequestBodyLimitResponseSent")]))
_PLAIN_ROUTES = (APIRoute, APIWebSocketRoute, StarletteRoute, WebSocketRoute, Mount)
_report = _private("fastapi.telemetry._asgi", "_exception")


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint as a client reaches it: its whole path template, mounts and prefixes included.

    :param host: the template of the host that it answers for; empty where any host will do.
    """

    path: str
    host: str
    mount: str
    methods: frozenset[str]
    endpoint: Callable[..., Any]
    dependant: Dependant | None
    context: RouteContext

    @property
    def is_websocket(self) -> bool:
        return not self.methods


def iter_routes(routes: Any, mount: str = "", host: str = "") -> Iterator[Route]:
    """Every endpoint below `routes` (an `app.routes`), those of mounted apps too."""
    for context in iter_route_contexts(routes):
        route = context._effective_route
        if isinstance(route, Mount):
            yield from iter_routes(route.routes or [], mount + route.path, host)
        elif isinstance(route, Host):
            yield from iter_routes(route.routes or [], mount, route.host)
        elif context.endpoint is not None and context.path_format is not None:
            yield Route(
                path=mount + context.path_format,
                host=host,
                mount=mount,
                methods=frozenset(context.methods or ()),
                endpoint=context.endpoint,
                dependant=getattr(context, "dependant", None),
                context=context,
            )


def dependants(dependant: Dependant) -> Iterator[Dependant]:
    """The dependant of a route and, depth first, those of all its dependencies."""
    yield dependant
    for child in dependant.dependencies:
        yield from dependants(child)


def overridden(dependant: Dependant, overrides: Mapping[Any, Any]) -> Dependant:
    """The dependant as it is solved with `overrides` (`app.dependency_overrides`)."""
    if not overrides:
        return dependant
    children = []
    for child in dependant.dependencies:
        call = overrides.get(child.call, child.call)
        if call is not child.call:
            child = get_dependant(path=child.path or "", call=call, name=child.name)
        children.append(overridden(child, overrides))
    return Dependant(
        **{
            name: getattr(dependant, name)
            for name in Dependant.__dataclass_fields__
            if name != "dependencies"
        },
        dependencies=children,
    )


def field_names(fields: list[Any], *, headers: bool = False) -> set[str] | None:
    """The names by which a request may carry the declared `fields`; `None` if by any name."""
    names: set[str] = set()
    for field in fields:
        model = _get_param_model(field)
        if model is None:
            names.update(name for _, name in _get_param_aliases(field))
            continue
        if model.model_config.get("extra") in ("allow", "forbid"):
            return None
        for name, info in model.model_fields.items():
            alias = info.validation_alias or info.alias or name
            if isinstance(alias, AliasPath) or not isinstance(alias, str):
                return None
            names.update((alias, name))
            if headers:
                names.add(name.replace("_", "-"))
    return names


def hand_over(dependant: Dependant, *, request: str, response: str) -> tuple[str, str]:
    """Have the endpoint called with the request, and with the response that dependencies write to.

    Its signature stays as it is. An endpoint that declares them already gets them by its own names.

    :return: the names by which they are passed.
    """
    dependant.request_param_name = dependant.request_param_name or request
    dependant.response_param_name = dependant.response_param_name or response
    return dependant.request_param_name, dependant.response_param_name


def matched(scope: Scope) -> Any:
    """The object that stands for the matched route in this scope."""
    return (
        scope.get("fastapi", {}).get("effective_route_context") or scope.get("route") or scope.get("endpoint")
    )


def is_plain(app: Any, route: Route) -> bool:
    """Whether the URL alone leads to the route, and FastAPI's own code alone from there to the endpoint:
    no mount, no host, no route class or router that may look at more."""
    contexts = list(iter_route_contexts(app.routes))
    return not route.mount and all(type(each.original_route) in _PLAIN_ROUTES for each in contexts)


def around_router(router: ASGIApp) -> ASGIApp:
    """The router with what FastAPI keeps around it, so that it can be called once more on its own."""
    return AsyncExitStackMiddleware(router)


def called_by_framework(depth: int = 2) -> bool:
    """Whether FastAPI itself called the function `depth` frames up."""
    return sys._getframe(depth).f_globals.get("__name__") == "fastapi.routing"


def scope_around() -> Scope | None:
    """The scope of the request for which FastAPI is calling us. Slow: for what is not the rule."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "fastapi.routing" and "request" in frame.f_locals:
            scope: Scope = frame.f_locals["request"].scope
            return scope
    return None


def check_routes(app: Any) -> None:
    """Let every endpoint and dependency that has a `__prodkit_check__(app, route)` object to its route.

    It is called when the app starts, by whatever of this package is installed.

    :raises ConfigurationError: what they raise; for a parameter that clients send though it was meant to be
        injected.
    """
    for route in iter_routes(app.routes):
        calls = [route.endpoint]
        if route.dependant is not None:
            calls += [each.call for each in dependants(route.dependant) if each.call is not None]
            for each in dependants(route.dependant):
                _check_parameters(each)
        for call in dict.fromkeys(calls):
            check = getattr(call, "__prodkit_check__", None)
            if check is not None:
                check(app, route)


def _check_parameters(dependant: Dependant) -> None:
    """FastAPI takes what it cannot resolve, and what it does not know, for part of the request."""
    if isinstance(dependant.call, type) and _is_ours(dependant.call):
        name = dependant.call.__qualname__
        raise ConfigurationError(
            f"Depends({name}) makes a new {name} for each request, out of what the client sends: name the "
            f"object that the app has, as in Annotated[{name}, Depends(auth)]"
        )
    fields = dependant.query_params + dependant.body_params
    for field in [*fields, *dependant.header_params, *dependant.cookie_params, *dependant.path_params]:
        hint = field.field_info.annotation
        subject = f"{field.name!r} of {getattr(dependant.call, '__qualname__', dependant.call)}"
        if isinstance(hint, ForwardRef) and re.search(r"\b(Depends|Security)\(", hint.__forward_arg__):
            raise ConfigurationError(
                f"{subject} is taken for a parameter that clients send: FastAPI cannot read its annotation "
                f"{hint.__forward_arg__}, in which a name is local to a function or imported for type "
                "checkers alone. Leave out `from __future__ import annotations` in that file, or write "
                f"`{field.name}: Type = Depends(...)`"
            )
        for kind in (hint, *get_args(hint)):
            if _is_ours(kind):
                raise ConfigurationError(
                    f"{subject} is a {kind.__qualname__} that any client could send: have it injected, "
                    f"`{field.name}: Annotated[{kind.__qualname__}, Depends(...)]`"
                )


def _is_ours(kind: Any) -> bool:
    return getattr(kind, "__module__", "").partition(".")[0] == __package__


class RouteTable:
    """Finds the `Route` that served a scope, once the router has matched it.

    Make one per app, with the app that stands outermost: a mounted app replaces `scope["app"]`.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._known: dict[int, list[tuple[re.Pattern[str], Route]]] = {}
        self._foreign: dict[int, Any] = {}

    def find(self, scope: Scope) -> Route | None:
        """The matched route, or `None` where nothing matched or the match is no endpoint."""
        key = matched(scope)
        candidates = self._known.get(id(key)) or self._learn(key)
        if len(candidates) == 1:
            return candidates[0][1]
        mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
        return next((route for regex, route in candidates if regex.fullmatch(mounted)), None)

    def template(self, scope: Scope) -> str | None:
        """The path template of the matched route, such as `/shops/{shop}/items/{item_id}`."""
        route = self.find(scope)
        return route.path if route is not None else None

    def _learn(self, key: Any) -> list[tuple[re.Pattern[str], Route]]:
        """Read the routes again for a key not met before: an app may gain routes after start-up."""
        if key is None or id(key) in self._foreign:
            return []
        self._known = {}
        for route in iter_routes(self._app.routes):
            regex = compile_path(route.mount)[0]
            for identity in identities(route):
                self._known.setdefault(id(identity), []).append((regex, route))
        found = self._known.get(id(key), [])
        if not found:
            self._foreign[id(key)] = key  # kept alive, so that its id stays its own
        return found


def identities(found: Route) -> list[Any]:
    """The objects by which a scope may name this route: one of them is what `matched` finds."""
    inner = found.context._route_context
    if inner is None:
        route: Any = found.context.route
        return [route] if hasattr(route, "dependant") else [route, found.endpoint]
    return [inner] if inner.starlette_route is None else [inner, inner.starlette_route]


def app_of(app: ASGIApp) -> Any:
    """The FastAPI app whose router is innermost in `app`; `None` where the chain hides it."""
    router = list(layers(app))[-1]
    return getattr(router, "dependency_overrides_provider", None)


def default_handlers() -> dict[type[Exception], Callable[..., Any]]:
    """The exception handlers that an app has unless its owner registered others."""
    return {
        HTTPException: exception_handlers.http_exception_handler,
        RequestValidationError: exception_handlers.request_validation_exception_handler,
        WebSocketRequestValidationError: exception_handlers.websocket_request_validation_exception_handler,
    }


def mounted_apps(app: Any) -> Iterator[Any]:
    """The Starlette and FastAPI apps that are mounted in `app`, at any depth."""
    for context in iter_route_contexts(app.routes):
        route = context._effective_route
        if isinstance(route, Mount | Host):
            for node in layers(route.app):
                if isinstance(node, Starlette):
                    yield node
                if hasattr(node, "routes"):
                    yield from mounted_apps(node)
                    break


def is_signal(exc: BaseException) -> bool:
    """Whether the exception only tells a layer of the framework further out that it has already answered."""
    return isinstance(exc, _SIGNALS)


def let_413_pass(scope: Scope) -> None:
    """Keep Starlette's body limit from putting its own text in the place of the 413 that we answer."""
    responder = scope.get("starlette._body_limit_responder")
    if responder is not None:
        responder.content_length = None  # what is read is counted all the same


def report_to_telemetry(scope: Scope, exc: BaseException) -> None:
    """Show FastAPI's own OpenTelemetry an exception that was answered inside, where it is not looking."""
    if _report is not None and "fastapi.telemetry" in scope:
        _report(scope=scope, exc=exc)
