"""The short way: URLs whose answers need nothing but the URL are answered before the router.

Which URL has which key is learned from requests that went the long way, through routing and validation. Only
routes qualify that have no dependencies and read neither header fields nor cookies (`Plan.has_lane`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.types import Scope

from .answer import Answer, answer
from .engine import Engine, Found
from .http import Asked
from .options import Options

__all__ = ["Lane"]

_ROOM = 16_384
_LONGEST = 512  # characters of a URL worth remembering
_MARKS = ("endpoint", "route", "router", "fastapi", "path_params")


class _Known(NamedTuple):
    key: str
    stamps: tuple[str, ...]
    engine: Engine
    options: Options
    marks: dict[str, Any]


class Lane:
    """What the requests so far have taught about URLs; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bytes], _Known] = {}

    def learn(
        self, scope: Scope, key: str, stamps: tuple[str, ...], engine: Engine, options: Options
    ) -> None:
        """Remember where the answer to a request is, and what the router wrote into its scope."""
        place = _place(scope)
        if place in self._known or len(scope["path"]) + len(scope["query_string"]) > _LONGEST:
            return
        if len(self._known) >= _ROOM:
            del self._known[next(iter(self._known))]
        marks = {name: scope[name] for name in _MARKS if name in scope}
        self._known[place] = _Known(key, stamps, engine, options, marks)

    async def find(self, scope: Scope) -> Answer | Found | None:
        """The answer; or what was found instead of it, to save the long way the look; or nothing."""
        known = self._known.get(_place(scope))
        if known is None:
            return None
        options, engine = known.options, known.engine
        asked = Asked(scope["headers"])
        if (
            (asked.credentials and not options.is_shared)
            or asked.range
            or asked.control
            or options.is_disabled()
            or scope.get("fastapi.telemetry") is not None
        ):
            return None
        found = await engine.find(known.key, known.stamps)
        entry, now = found.entry, engine.clock()
        if entry is None or not options.policy.is_plainly_fresh(entry, now):
            return found
        scope.update(known.marks)
        return answer(entry, asked, now)


def _place(scope: Scope) -> tuple[str, str, bytes]:
    return scope["method"], scope["path"], scope["query_string"]
