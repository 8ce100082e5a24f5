"""The rules that hold together for a route."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from .._fastapi import Route, dependants
from ..errors import ConfigurationError
from .keys import of_scope
from .terms import Terms

if TYPE_CHECKING:
    from .limiter import RateLimiter
    from .rule import RateLimit

__all__ = ["Bound", "Entry", "bind", "check_names", "leading"]

Entry = tuple["RateLimit", str]
"""A rule, and the place where it counts."""


class Bound:
    """The rules that hold together, those of one limiter being one decision."""

    __slots__ = ("groups", "is_early", "key", "rules")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.rules = frozenset(rule for rule, _ in entries)
        self.is_early = all(map(_is_early, self.rules))
        """Whether they come to the same before the route is found and its other dependencies have run."""
        keys = {rule.key for rule in self.rules}
        self.key = of_scope(keys.pop()) if self.is_early and len(keys) == 1 else None
        """Who a request counts for, where the scope alone tells it to all of them."""
        self.groups: tuple[tuple[RateLimiter, tuple[Entry, ...]], ...] = tuple(
            (limiter, tuple(entry for entry in entries if entry[0].limiter is limiter))
            for limiter in dict.fromkeys(rule.limiter for rule, _ in entries)
        )


def bind(route: Route, method: str) -> Bound:
    """The rules on which a route depends.

    :raises ConfigurationError: if two of them have one name.
    """
    rules = _rules(route)
    _check_names(route.path, rules)
    entries: list[Entry] = []
    ordinal = 0
    for rule in rules:
        entries.append((rule, rule.place(f"{method} {route.host}{route.path}", ordinal)))
        ordinal += rule.terms.name is None
    return Bound(entries)


def check_names(route: Route, everywhere: Bound) -> None:
    """
    :raises ConfigurationError: if a rule of a route has the name, and so the count, of one of the whole app.
    """
    _check_names(route.path, everywhere.rules.union(_rules(route)))


def _check_names(path: str, rules: Iterable[RateLimit]) -> None:
    names = [rule.terms.name for rule in rules if rule.terms.name is not None]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{path} is under two limits of one name: {', '.join(sorted(names))}")


def leading(route: Route) -> int:
    """How many rules are the first dependencies of a route, so that they may as well be weighed before it
    solves any; 0 where they take more than the scope, or where the route is of an app in this one, which may
    stand in several places and count by a middleware of its own."""
    is_inner = route.mount or route.host
    if route.dependant is None or is_inner or not all(map(_is_early, _rules(route))):
        return 0
    first = takewhile(lambda each: _is_rule(each.call) and each.name is None, route.dependant.dependencies)
    return len(list(first))


def _rules(route: Route) -> list[RateLimit]:
    calls: list[Any] = [] if route.dependant is None else [each.call for each in dependants(route.dependant)]
    return [call for call in dict.fromkeys(calls) if _is_rule(call)]


def _is_early(rule: RateLimit) -> bool:
    return rule.is_plain and of_scope(rule.key) is not None


def _is_rule(call: Any) -> bool:
    return isinstance(getattr(call, "terms", None), Terms)
