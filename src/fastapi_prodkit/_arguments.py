"""Arguments that cannot be meant, refused by their name and with the mend.

The other half of static types: for values that no type tells apart, and for who checks no types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from .errors import ConfigurationError

__all__ = [
    "count",
    "field_name",
    "fraction",
    "function",
    "functions",
    "instance",
    "moment",
    "names",
    "plain_function",
    "seconds",
    "text",
]

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def seconds(argument: str, given: Any, *, zero: bool = False, endless: bool = False) -> float:
    """A length of time.

    :param zero: whether none at all is one.
    :param endless: whether infinity is one.
    """
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not (given > 0 or (zero and given == 0))
        or (given == math.inf and not endless)
    ):
        raise ConfigurationError(
            f"{argument}={given!r} is no length of time: give seconds {'from' if zero else 'above'} 0"
        )
    length: float = given
    return length


def moment(argument: str, given: Any) -> float:
    """A time; infinity is never."""
    if isinstance(given, bool) or not isinstance(given, int | float) or math.isnan(given):
        raise ConfigurationError(f"{argument}={given!r} is no time: give seconds since the epoch")
    return given


def fraction(argument: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ConfigurationError(f"{argument}={given!r} is no share: give a number from 0 to 1")
    return given


def count(argument: str, given: Any, *, least: int = 1) -> int:
    """A whole number."""
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ConfigurationError(f"{argument}={given!r} must be a whole number: give at least {least}")
    number: int = given
    return number


def text(argument: str, given: Any) -> str:
    if not isinstance(given, str):
        raise ConfigurationError(f"{argument}={given!r}: give a string, not a {type(given).__name__}")
    word: str = given
    return word


def names(argument: str, given: Any) -> tuple[str, ...]:
    """Several names; a single string is several letters, which nobody means."""
    if isinstance(given, str):
        raise ConfigurationError(f"{argument}={given!r} is one string: give a list, [{given!r}]")
    if not isinstance(given, Iterable) or isinstance(given, Mapping | bytes):
        raise ConfigurationError(f"{argument}={given!r}: give a list of strings")
    return tuple(text(argument, each) for each in given)


def function(argument: str, given: F) -> F:
    if not callable(given):
        raise ConfigurationError(f"{argument}={given!r}: give a function, not a {type(given).__name__}")
    return given


def plain_function(argument: str, given: F) -> F:
    """A function whose result nobody awaits."""
    if iscoroutinefunction(given) or iscoroutinefunction(getattr(given, "__call__", None)):  # noqa: B004
        raise ConfigurationError(f"{argument}={given!r}: give a plain function: nobody awaits it")
    return function(argument, given)


def functions(argument: str, given: Any) -> tuple[Any, ...]:
    if callable(given) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{argument}={given!r}: give a list of functions")
    return tuple(function(argument, each) for each in given)


def instance(argument: str, given: object, kind: type, mend: str) -> None:
    """
    :param mend: how to make one.
    """
    if not isinstance(given, kind):
        raise ConfigurationError(f"{argument}={given!r} is no {kind.__name__}: {mend}")


def field_name(argument: str, given: Any) -> bytes:
    """The name of a header field, in lower case as ASGI has it."""
    if _TOKEN.fullmatch(text(argument, given)) is None:
        raise ConfigurationError(f"{argument}={given!r}: this is no name of a header field")
    return text(argument, given).lower().encode("ascii")
