"""Which route served a request."""

from __future__ import annotations

import re
from typing import Any

from starlette.routing import compile_path
from starlette.types import Scope

from ._fastapi import Route, identities, iter_routes, matched

__all__ = ["RouteTable"]


class RouteTable:
    """Finds the `Route` that served a scope, once the router has matched it.

    Make one per app, with the app that stands outermost: a mounted app replaces `scope["app"]`.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._known: dict[int, list[tuple[re.Pattern[str], Route]]] = {}
        self._foreign: dict[int, Any] = {}

    def find(self, scope: Scope) -> Route | None:
        """The matched route, or `None` where nothing matched or the match is no endpoint."""
        key = matched(scope)
        candidates = self._known.get(id(key)) or self._learn(key)
        if len(candidates) == 1:
            return candidates[0][1]
        mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
        return next((route for regex, route in candidates if regex.fullmatch(mounted)), None)

    def is_one(self, key: Any) -> bool:
        """Whether what was matched stands for one route alone, wherever its app is mounted."""
        return len(self._known.get(id(key)) or self._learn(key)) == 1

    def template(self, scope: Scope) -> str | None:
        """The path template of the matched route, such as `/shops/{shop}/items/{item_id}`."""
        route = self.find(scope)
        return route.path if route is not None else None

    def _learn(self, key: Any) -> list[tuple[re.Pattern[str], Route]]:
        """Read the routes again for a key not met before: an app may gain routes after start-up."""
        if key is None or id(key) in self._foreign:
            return []
        self._known = {}
        for route in iter_routes(self._app.routes):
            regex = compile_path(route.mount)[0]
            for identity in identities(route):
                self._known.setdefault(id(identity), []).append((regex, route))
        found = self._known.get(id(key), [])
        if not found:
            self._foreign[id(key)] = key  # kept alive, so that its id stays its own
        return found
