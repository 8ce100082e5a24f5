"""What is objected to when an app starts."""

from __future__ import annotations

import inspect
from typing import Any

from .._asgi import Place, layers
from .._fastapi import Route, iter_routes, mounted_apps
from ..errors import ConfigurationError
from .arguments import Arguments
from .options import Options

__all__ = ["is_checked"]


def is_checked(app: Any, route: Route, wrapper: Any, arguments: Arguments, options: Options) -> bool:
    """Whether `route` leads to the cached endpoint `wrapper`, and may.

    :raises ConfigurationError: if it cannot work, with the mend.
    """
    name = arguments.name
    if inspect.unwrap(route.endpoint) is not inspect.unwrap(wrapper):
        if arguments.injected:
            raise ConfigurationError(
                f"the dependency {name} is cached but has dependencies of its own, which no key can "
                "hold: cache what it computes from plain values instead"
            )
        return False
    if route.endpoint is not wrapper:
        if route.endpoint is arguments.function and any(
            each.endpoint is wrapper for each in iter_routes(app.routes)
        ):
            return False
        raise ConfigurationError(
            f"{route.path} does not reach its cache: put @cache directly above `def "
            f"{arguments.function.__name__}`, below @app.get and below every other decorator"
        )
    if route.dependant is None:
        raise ConfigurationError(
            f"{route.path} is no FastAPI path operation, so @cache cannot know what its answer depends "
            "on: declare it with @app.get"
        )
    if not route.methods & options.methods:
        raise ConfigurationError(
            f"@cache on {'/'.join(sorted(route.methods)) or 'WebSocket'} {route.path} keeps nothing: "
            "it caches GET; for another method say so, as in methods=['POST']"
        )
    if not _has_layer(app) and not any(map(_has_layer, mounted_apps(app))):
        raise ConfigurationError(
            f"{route.path} is cached, but the cache is not installed: app.add_middleware(CacheMiddleware)"
        )
    return True


def _has_layer(app: Any) -> bool:
    """Whether the capturing layer is in the stack of `app`, or will be once that is built."""
    return any(getattr(each, "place", None) is Place.CACHE for each in layers(app.middleware_stack)) or any(
        getattr(each.cls, "installs", None) is Place.CACHE for each in app.user_middleware
    )
