"""Who was refused where a moment ago: asked again, they are weighed before the route is looked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._fastapi import routed
from .bound import Bound
from .rule import Demand
from .terms import value

__all__ = ["Refusals"]

_MAX_PATHS = 1024
_MAX_SUBJECTS = 10_000


class Refused(NamedTuple):
    """The rules that refused somebody at a path, and what the router wrote into a scope with that path."""

    bound: Bound
    marks: dict[str, Any]


class Refusals:
    """Remembers paths, their rules and the subjects that these refused, for as long as they will.

    It decides nothing: whoever it knows is weighed as ever, only earlier.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paths: dict[tuple[str, str, bytes], Refused] = {}
        self._until: dict[tuple[int, str], float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def learn(self, scope: Scope, bound: Bound, demand: Demand, seconds: float) -> None:
        if len(self._paths) >= _MAX_PATHS or len(self._until) >= _MAX_SUBJECTS:
            self._paths.clear()
            self._until.clear()
        where = _where(scope)
        known = self._paths.get(where)
        if known is None or known.bound is not bound:  # refused again, it never came to the router
            self._paths[where] = Refused(bound, routed(scope))
        self._until[id(bound), demand.charges[0].subject] = self._clock() + seconds

    async def find(self, scope: Scope, connection: HTTPConnection) -> Refused | None:
        """What refused this client here, if it still may."""
        refused = self._paths.get(_where(scope))
        if refused is None:
            return None
        bound = refused.bound
        limiter, entries = bound.groups[0]
        identity = await value(entries[0][0].key(connection))
        if not identity:
            return None
        key = (id(bound), limiter.subject(identity))
        until = self._until.get(key)
        if until is None or self._clock() >= until:
            self._until.pop(key, None)
            return None
        return refused


def _where(scope: Scope) -> tuple[str, str, bytes]:
    """What the router goes by."""
    host = next((text for name, text in scope["headers"] if name == b"host"), b"")
    return scope["method"], scope["path"], host
