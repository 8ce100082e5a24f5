"""Which problems a route can emit: what its endpoint, its dependencies and the framework declare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException

from .._fastapi import Route, dependants
from ..errors import ConfigurationError, ProblemError, phrase
from .registry import Problem, Problems

__all__ = ["emitted", "known_problems", "raises"]

F = TypeVar("F", bound=Callable[..., Any])
Emission = int | type[Exception] | Problem

_DECLARED = "__problems__"


def raises(*problems: Emission) -> Callable[[F], F]:
    """Declare what an endpoint or a dependency may answer instead of a result, for the OpenAPI document.

        @app.post("/orders")
        @raises(OutOfStock, 404)
        async def order(...): ...

    A dependency declares once what every route that uses it can emit. The function is returned unchanged.

    :param problems: exception classes that are declared or registered, status codes, or `Problem`s.
    :raises ConfigurationError: for anything else.
    """
    for each in problems:
        if isinstance(each, int) and not 400 <= each <= 599:
            raise ConfigurationError(f"raises({each!r}): the status codes of problems are 400 to 599")
        ancestors = getattr(each, "__mro__", ())
        if not isinstance(each, int | Problem) and Exception not in ancestors:
            raise ConfigurationError(f"raises({each!r}): give exception classes, status codes or Problems")
        if HTTPException in ancestors and not hasattr(each, "__problem__"):
            raise ConfigurationError(f"raises({each!r}): a class does not say its status; give the status")

    def declare(function: F) -> F:
        setattr(function, _DECLARED, (*getattr(function, _DECLARED, ()), *problems))
        return function

    return declare


def emitted(route: Route, problems: Problems, *, app: Any) -> list[Problem]:
    """The problems of a route, without those that every path shares (404 and 405 of the router)."""
    solved = [] if route.dependant is None else list(dependants(route.dependant))
    calls = [route.endpoint, *(each.call for each in solved if each.call is not None)]
    found = [problem for call in dict.fromkeys(calls) for problem in _of_call(call, problems)]
    declares_body = getattr(route.context, "body_field", None) is not None
    if declares_body:
        found.append(_plain(400))
    limits = [getattr(each, "max_body_size", None) for each in (route.context, app)]
    if limits != [None, None] and (declares_body or any(each.request_param_name for each in solved)):
        found.append(_plain(413))
    return [*dict.fromkeys([*found, _plain(500)])]


def known_problems(app: Any, routes: Iterable[Route], problems: Problems) -> list[Problem]:
    """Every kind with a type of its own that the app registered, declared on a route or has met."""
    kinds = [*problems.kinds(), *(each for route in routes for each in emitted(route, problems, app=app))]
    return sorted({kind for kind in kinds if kind.type != "about:blank"}, key=lambda kind: kind.type)


def _of_call(call: Any, problems: Problems) -> Iterator[Problem]:
    if isinstance(call, SecurityBase) and getattr(call, "auto_error", False):
        yield _plain(401)
    method = getattr(type(call), "__call__", None)  # noqa: B004 -- of an object that is a dependency
    for each in (*getattr(call, _DECLARED, ()), *getattr(method, _DECLARED, ())):
        if isinstance(each, Problem):
            yield each
        elif isinstance(each, int):
            yield _plain(each)
        elif isinstance(each, ProblemError):
            yield Problem(status=each.status_code, type=each.type, title=each.title)
        else:
            yield problems.find(each) or _plain(500)


def _plain(status: int) -> Problem:
    return Problem(status=status, title=phrase(status))
