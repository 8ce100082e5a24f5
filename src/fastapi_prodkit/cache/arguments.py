"""The arguments of a cached function: which count, and what stands for them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi.params import Body, Depends
from fastapi.params import Param as FastAPIParam
from fastapi.security import SecurityScopes
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette.background import BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ..errors import ConfigurationError
from .identity import identity, is_keyable

__all__ = ["Arguments"]

_GIVEN_BY_FASTAPI = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)


class Arguments:
    """What `function` takes, read once.

    :param name: what it is called in keys; by default its module and qualified name.
    :param key: a callable that takes some of the arguments by their names and returns what counts.
    """

    def __init__(
        self, function: Callable[..., Any], key: Callable[..., Any] | None, name: str | None = None
    ) -> None:
        self.function = function
        self._is_async = any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function))))
        self.name = name or f"{function.__module__}.{function.__qualname__}"
        self.is_named = name is not None
        self.signature = inspect.signature(function)
        self.hints = _hints(function)
        self.key = key
        self._key_names = _names_of(key, self)
        self.injected = frozenset(
            name for name, each in self.signature.parameters.items() if self._is_injected(name, each)
        )
        self.values = tuple(name for name in self.signature.parameters if name not in self.injected)
        if key is None:
            self.require_keyable(name for name in self.values if not self._is_declared(name))

    async def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function: in the thread pool if it is a plain one."""
        if self._is_async:
            value = self.function(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        return await run_in_threadpool(self.function, *args, **kwargs)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults filled in.

        :raises TypeError: if the function cannot be called like that.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def named(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, validated: bool = False
    ) -> dict[str, Any]:
        """The given arguments and the defaults of others, by name.

        :param validated: whether as FastAPI would hand them over, which takes `"3"` for an `int` as `3`,
            instead of as a call of the function has them.
        :raises TypeError: if the function takes no such arguments.
        :raises ValidationError: if an argument is of another type.
        """
        bound = self.signature.bind_partial(*args, **kwargs)
        given = frozenset(bound.arguments) if validated else ()
        bound.apply_defaults()
        found = {}
        for name, value in bound.arguments.items():
            if name in given and name in self.hints and self._is_single(name):
                value = TypeAdapter(self.hints[name]).validate_python(value)
            elif isinstance(value, FieldInfo):
                value = value.get_default(call_default_factory=True)
            if name in self.values and value is not PydanticUndefined:
                found[name] = value
        return found

    def identity(self, bound: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
        """What stands for these arguments.

        :raises ConfigurationError: naming the argument that has no value identity.
        """
        if names is None and self.key is not None:
            return self.key_identity(bound)
        parts = []
        for name in self.values if names is None else names:
            try:
                parts.append(f"{name}={identity(bound[name])}")
            except ConfigurationError as error:
                raise ConfigurationError(f"{name!r} of {self.name} cannot be cached by: {error}") from None
        return ",".join(parts)

    def key_identity(self, bound: Mapping[str, Any]) -> str:
        """What `key=` says of these arguments."""
        assert self.key is not None
        try:
            return identity(self.key(**{name: bound[name] for name in self._key_names}))
        except ConfigurationError as error:
            raise ConfigurationError(f"key= of {self.name} returns no value: {error}") from None

    def _is_single(self, name: str) -> bool:
        kind = self.signature.parameters[name].kind
        return kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    def _is_injected(self, name: str, parameter: inspect.Parameter) -> bool:
        if isinstance(parameter.default, Depends):
            return True
        hint = self.hints.get(name)
        if typing.get_origin(hint) is typing.Annotated:
            first, *metadata = typing.get_args(hint)
            if any(isinstance(each, Depends) for each in metadata):
                return True
            hint = first
        return isinstance(hint, type) and issubclass(hint, _GIVEN_BY_FASTAPI)

    def require_keyable(self, names: Iterable[str]) -> None:
        """
        :raises ConfigurationError: naming the argument whose type has no value identity.
        """
        for name in names:
            hint = self.hints.get(name, Any)
            if not is_keyable(hint):
                others = ", ".join(each for each in self.values if each != name) or "other"
                raise ConfigurationError(
                    f"{name!r} of {self.name} is a {_spelled(hint)}, which has no value identity to be "
                    f"cached by: say what counts, as in key=lambda {others}: ..., or give the class a "
                    "method `__cache_key__`"
                )

    def _is_declared(self, name: str) -> bool:
        """Whether FastAPI takes it from a request, in a way that is declared to it."""
        hint = self.hints.get(name)
        declared = [self.signature.parameters[name].default]
        if typing.get_origin(hint) is typing.Annotated:
            declared += typing.get_args(hint)[1:]
        return any(isinstance(each, FastAPIParam | Body) for each in declared)


def _names_of(key: Callable[..., Any] | None, arguments: Arguments) -> tuple[str, ...]:
    if key is None:
        return ()
    if inspect.iscoroutinefunction(key):
        raise ConfigurationError(
            f"key= of {arguments.name} is a coroutine function, and a key is made of what is there already: "
            "give a plain one"
        )
    names = tuple(inspect.signature(key).parameters)
    unknown = [name for name in names if name not in arguments.signature.parameters]
    if unknown:
        raise ConfigurationError(
            f"key= of {arguments.name} takes {unknown[0]!r}, which the function does not"
        )
    return names


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a name that is defined later, or only for type checkers
        annotations = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in annotations.items() if not isinstance(hint, str)}


def _spelled(hint: Any) -> str:
    return getattr(hint, "__qualname__", None) or str(hint)
