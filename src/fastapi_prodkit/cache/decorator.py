"""What `@cache(...)` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from .._fastapi import called_by_framework
from ..errors import ConfigurationError
from .arguments import Arguments
from .codec import Codec, codec_for
from .engine import Engine
from .function import CachedFunction
from .options import Options
from .route import CachedRoute
from .slot import slot_of

__all__ = ["Decorator"]

P = ParamSpec("P")
R = TypeVar("R")


class Decorator:
    """Keeps the signature: what is cached is called, documented and injected as before, but awaited."""

    def __init__(
        self,
        engine: Engine,
        options: Options,
        *,
        key: Callable[..., Any] | None,
        codec: Codec | None,
        name: str | None,
    ) -> None:
        self._engine = engine
        self._options = options
        self._key = key
        self._codec = codec
        self._name = name

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isfunction(function):
            raise ConfigurationError(
                f"@cache is for functions and methods, not for {function!r}: put it below @classmethod, "
                "@staticmethod and @property"
            )
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ConfigurationError(
                f"{function.__qualname__} is a generator: a stream has no answer to keep. Take @cache off, "
                "or return the whole"
            )
        arguments = Arguments(function, self._key, self._name)
        self._options.check(arguments)
        engine = self._engine
        engine.register(arguments.name, function)
        values = CachedFunction(
            engine,
            arguments,
            self._options,
            lambda: self._codec or codec_for(function, arguments.hints, arguments.name),
        )

        @functools.wraps(function)
        async def cached(*args: Any, **kwargs: Any) -> Any:
            slot = slot_of(kwargs.get(route.request_name))
            if slot is not None and not slot.spent and not args:
                plan = route.plan_of(kwargs)
                if plan is not None:
                    return await route(slot, plan, kwargs)
            if called_by_framework():
                return await route.unattached(kwargs)
            return await values(args, kwargs)

        route = CachedRoute(engine, arguments, self._options, cached)
        cached.__prodkit_cached__ = route  # type: ignore[attr-defined]  # functions take attributes
        cached.__prodkit_check__ = route.check  # type: ignore[attr-defined]  # as above
        cached.__prodkit_open__ = lambda: (  # type: ignore[attr-defined]  # as above
            self._options.is_disabled() or getattr(engine.store, "is_open", True)
        )
        function.__prodkit_check__ = route.check  # type: ignore[attr-defined]  # finds it above its route
        return cached
