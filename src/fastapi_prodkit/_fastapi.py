"""What FastAPI keeps private of apps and routes, read here. How it handles errors is `_handling.py`, what is
changed in it `_grafts.py`; no other file knows of it.

Since FastAPI 0.137 `include_router(prefix=)` is lazy and `scope["route"].path` lacks the prefix; the truth is
in the "effective route context" of the scope, which is private, plus the prefixes of the mounts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _get_param_aliases, _get_param_model, get_dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from pydantic import AliasPath
from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Router, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Scope

from ._asgi import layers

__all__ = [
    "Route",
    "app_of",
    "called_by_framework",
    "count_routes",
    "dependants",
    "field_names",
    "foreign_class",
    "identities",
    "iter_routes",
    "matched",
    "mounted_apps",
    "overridden",
    "path_below",
    "private",
    "routed",
    "scope_around",
]


def private(module: str, name: str) -> Any:
    """Something that newer versions have, older ones do not and coming ones may move."""
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


_BODY_LIMITS = tuple(filter(None, [private("starlette.middleware.body_limit", "RequestBodyLimitMiddleware")]))
_PLAIN_ROUTES = (APIRoute, APIWebSocketRoute, StarletteRoute, WebSocketRoute, Mount)


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint as a client reaches it: its whole path template, mounts and prefixes included.

    :param host: the template of the host that it answers for; empty where any host will do.
    :param behind: what is nearest to it of the mounted apps that have middleware, or of the middleware of
        mounts; `None` if there is none on the way.
    :param is_plain: whether the URL alone leads to it, and FastAPI's own code alone from there to the
        endpoint: no mount, no host, no route class or router that may look at more.
    """

    path: str
    host: str
    mount: str
    methods: frozenset[str]
    endpoint: Callable[..., Any]
    dependant: Dependant | None
    context: RouteContext
    behind: Any
    is_plain: bool


def iter_routes(
    routes: Any, mount: str = "", host: str = "", behind: Any = None, *, is_top: bool = True
) -> Iterator[Route]:
    """Every endpoint below `routes` (an `app.routes`), those of mounted apps too."""
    contexts = list(iter_route_contexts(routes))
    is_plain = is_top and all(type(each.original_route) in _PLAIN_ROUTES for each in contexts)
    for context in contexts:
        route = context._effective_route
        if isinstance(route, Mount):
            nearer = _in_between(route.app, route._base_app) or behind
            yield from iter_routes(route.routes or [], mount + route.path, host, nearer, is_top=False)
        elif isinstance(route, Host):
            nearer = _in_between(route.app) or behind
            yield from iter_routes(route.routes or [], mount, route.host, nearer, is_top=False)
        elif context.endpoint is not None and context.path_format is not None:
            yield Route(
                path=mount + context.path_format,
                host=host,
                mount=mount,
                methods=frozenset(context.methods or ()),
                endpoint=context.endpoint,
                dependant=getattr(context, "dependant", None),
                context=context,
                behind=behind,
                is_plain=is_plain,
            )


def count_routes(routes: Any) -> int:
    """How many there are, with those of mounts and of routers that were included."""
    inner = (getattr(each, "original_router", each) for each in routes)
    return len(routes) + sum(count_routes(getattr(each, "routes", None) or ()) for each in inner)


def _in_between(app: ASGIApp, inner: Any = None) -> Any:
    """What of a mount sees the responses of the routes below, if anything does.

    :param inner: the app that `app` is with the middleware of the mount around it.
    """
    inner = app if inner is None else inner
    if getattr(inner, "user_middleware", None):
        return inner
    around = [each for each in layers(app) if each is not inner]
    if isinstance(inner, Router):
        around += [each for each in layers(inner.middleware_stack) if each != inner.app]
    return next((each for each in reversed(around) if not isinstance(each, _BODY_LIMITS)), None)


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


def matched(scope: Scope) -> Any:
    """The object that stands for the matched route in this scope."""
    around = scope.get("fastapi")
    found = None if around is None else around.get("effective_route_context")
    if found is None:
        found = scope.get("route")
    return scope.get("endpoint") if found is None else found


def routed(scope: Scope) -> dict[str, Any]:
    """What the router wrote into a scope that it matched: that much tells which route it was."""
    return {name: scope[name] for name in ("endpoint", "route", "router", "fastapi") if name in scope}


def path_below(scope: Scope) -> str:
    """The path of a request without the root path and the mounts."""
    path: str = get_route_path(scope)
    return path


def foreign_class(route: Route) -> str | None:
    """The name of a route class that handles requests in its own way, if that is not FastAPI's."""
    kind = type(route.context.original_route)
    names = ("get_route_handler", "handle")
    is_own = all(getattr(kind, name, None) is getattr(APIRoute, name) for name in names)
    return None if is_own else kind.__qualname__


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
