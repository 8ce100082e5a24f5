"""The short way: URLs whose answers need nothing but the URL are answered before the router.

Which URL has which key is learned from requests that went the long way, through routing and validation. Only
routes qualify that have no dependencies and read neither header fields nor cookies (`Plan.has_lane`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.types import Scope

from .._fastapi import matched, routed
from .answer import Answer, answer
from .engine import Engine, Found
from .http import Asked
from .options import Options

__all__ = ["Known", "Lane"]

_LONGEST = 512  # characters of a URL worth remembering


class _Way(NamedTuple):
    """What the URLs of one route share, such as what the router wrote into the scope."""

    engine: Engine
    options: Options
    marks: dict[str, Any]


class Known(NamedTuple):
    """Where the answer for a URL is."""

    key: str
    stamps: tuple[str, ...]
    way: _Way
    path_params: dict[str, Any] | None


class Lane:
    """What the requests so far have taught about URLs; the oldest are forgotten first.

    :param room: of how many URLs.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._known: dict[tuple[str, str, bytes], Known] = {}
        self._ways: dict[int, _Way] = {}

    def learn(
        self, scope: Scope, key: str, stamps: tuple[str, ...], engine: Engine, options: Options
    ) -> None:
        """Remember where the answer to a request is, and what the router wrote into its scope."""
        place = _place(scope)
        if place in self._known or len(scope["path"]) + len(scope["query_string"]) > _LONGEST:
            return
        if len(self._known) >= self._room:
            del self._known[next(iter(self._known))]
        route = id(matched(scope))  # kept alive by the marks, so that it stays its own
        way = self._ways.get(route)
        if way is None:
            way = self._ways[route] = _Way(engine, options, routed(scope))
        self._known[place] = Known(key, stamps, way, scope.get("path_params") or None)

    def known(self, scope: Scope) -> Known | None:
        return self._known.get(_place(scope))

    async def find(self, known: Known, scope: Scope) -> Answer | Found | None:
        """The answer; or what was found instead of it, to save the long way the look; or nothing."""
        engine, options, marks = known.way
        asked = Asked(scope)
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
        scope.update(marks, path_params=known.path_params or {})
        return answer(entry, asked, now)


def _place(scope: Scope) -> tuple[str, str, bytes]:
    return scope["method"], scope["path"], scope["query_string"]
