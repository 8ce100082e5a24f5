"""What is changed in how FastAPI serves a route, with what it keeps private."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute, request_response
from starlette.types import ASGIApp

from ._fastapi import Route, private

__all__ = ["around_router", "hand_over", "put_ahead"]

_current_context = private("fastapi.routing", "_effective_route_context_var")


def hand_over(dependant: Dependant, *, request: str, response: str) -> tuple[str, str]:
    """Have the endpoint called with the request, and with the response that dependencies write to.

    Its signature stays as it is. An endpoint that declares them already gets them by its own names.

    :return: the names by which they are passed.
    """
    dependant.request_param_name = dependant.request_param_name or request
    dependant.response_param_name = dependant.response_param_name or response
    return dependant.request_param_name, dependant.response_param_name


def put_ahead(route: Route, count: int, wrap: Callable[[ASGIApp, ASGIApp], ASGIApp]) -> None:
    """Have a route served by `wrap(whole, rest)`: by what serves it now, and by the same without the first
    `count` of its dependencies. FastAPI takes eight microseconds for one, whatever it does.

    A route that somebody made or wrapped in his own way stays as it is.
    """
    original: Any = route.context.original_route
    owner: Any = route.context._effective_route
    if _current_context is None or type(original) is not APIRoute:
        return
    whole: Any = owner.app
    if getattr(whole, "__code__", None) is not request_response(original.endpoint).__code__:
        return
    dependant = owner.dependant
    token = _current_context.set(route.context._route_context)
    try:
        owner.dependant = replace(dependant, dependencies=dependant.dependencies[count:])
        rest = request_response(original.get_route_handler())
    finally:
        owner.dependant = dependant
        _current_context.reset(token)
    owner.app = wrap(whole, rest)


def around_router(router: ASGIApp) -> ASGIApp:
    """The router with what FastAPI keeps around it, so that it can be called once more on its own."""
    return AsyncExitStackMiddleware(router)
