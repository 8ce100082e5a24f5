"""What cannot work is said when the app starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ForwardRef, get_args

from fastapi.dependencies.models import Dependant

from ._fastapi import Route, dependants, iter_routes, overridden
from .errors import ConfigurationError

__all__ = ["check_open", "check_routes", "require_open"]


def check_routes(app: Any) -> None:
    """Let every endpoint and dependency that has a `__prodkit_check__(app, route)` object to its route.

    It is called when the app starts, by whatever of this package is installed.

    :raises ConfigurationError: what they raise; for a parameter that clients send though it was meant to be
        injected.
    """
    for route in iter_routes(app.routes):
        for each in () if route.dependant is None else dependants(route.dependant):
            _check_parameters(each)
            if each is not route.dependant:
                _check_is_dependency(each)
        for call in _calls(route, route.dependant):
            check = getattr(call, "__prodkit_check__", None)
            if check is not None:
                check(app, route)


def check_open(app: Any) -> None:
    """See that what the endpoints and dependencies keep, they keep in places that are open.

    It is called when the app has started. What a test overrides may stay closed.

    :raises ConfigurationError: for one that is not.
    """
    for route in iter_routes(app.routes):
        dependant = route.dependant
        if dependant is not None:
            provider = getattr(route.context, "dependency_overrides_provider", None)
            dependant = overridden(dependant, getattr(provider, "dependency_overrides", {}))
        for call in _calls(route, dependant):
            require_open(route.path, call)


def require_open(subject: str, call: Any) -> None:
    """
    :raises ConfigurationError: if `call` has a `__prodkit_open__()` that says no.
    """
    is_open = getattr(call, "__prodkit_open__", None)
    if is_open is not None and not is_open():
        raise ConfigurationError(
            f"{subject} needs a backend that is not open: hand it to the app's lifespan, as in "
            "FastAPI(lifespan=Resources(backend)), or use `async with backend:`"
        )


def _calls(route: Route, dependant: Dependant | None) -> Iterable[Any]:
    """The endpoint and its dependencies, each once."""
    calls = [route.endpoint]
    if dependant is not None:
        calls += [each.call for each in dependants(dependant) if each.call is not None]
    return dict.fromkeys(calls)


def _check_parameters(dependant: Dependant) -> None:
    """FastAPI takes what it cannot resolve, and what it does not know, for part of the request."""
    if isinstance(dependant.call, type) and _is_ours(dependant.call):
        name = dependant.call.__qualname__
        raise ConfigurationError(
            f"Depends({name}) makes a new {name} for each request, out of what the client sends: name the "
            f"object that the app has, as in Annotated[{name}, Depends(auth)]"
        )
    for field in _fields(dependant):
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


def _check_is_dependency(dependant: Dependant) -> None:
    """No dependency of this package takes parameters that clients send; what makes one takes options."""
    if _is_ours(dependant.call) and (fields := _fields(dependant)):
        name = getattr(dependant.call, "__qualname__", type(dependant.call).__qualname__)
        raise ConfigurationError(
            f"Depends({name}) takes {fields[0].name!r} from what the client sends: it makes a dependency, so "
            f"call it, as in Depends({name}(...))"
        )


def _fields(dependant: Dependant) -> list[Any]:
    """What clients send."""
    fields = dependant.query_params + dependant.body_params + dependant.path_params
    return fields + dependant.header_params + dependant.cookie_params


def _is_ours(kind: Any) -> bool:
    return getattr(kind, "__module__", "").partition(".")[0] == __package__
