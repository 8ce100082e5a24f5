"""Arguments that cannot be meant, refused by their name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..errors import ConfigurationError

__all__ = ["field_name", "function", "functions", "names"]

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def names(argument: str, given: Iterable[str]) -> tuple[str, ...]:
    """Several names; a single string is several letters, which nobody means."""
    if isinstance(given, str):
        raise ConfigurationError(f"{argument}={given!r}: give a list, [{given!r}]")
    return tuple(given)


def function(argument: str, given: F) -> F:
    if not callable(given):
        raise ConfigurationError(f"{argument}={given!r}: give a function, not a {type(given).__name__}")
    return given


def functions(argument: str, given: Iterable[F]) -> tuple[F, ...]:
    if callable(given):
        raise ConfigurationError(f"{argument}={given!r}: give a list of functions")
    return tuple(function(argument, each) for each in given)


def field_name(argument: str, given: str) -> bytes:
    """The name of a header field, in lower case as ASGI has it."""
    if _TOKEN.fullmatch(given) is None:
        raise ConfigurationError(f"{argument}={given!r}: this is no name of a header field")
    return given.lower().encode("ascii")
