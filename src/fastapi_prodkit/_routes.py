"""Which route served a request."""

from __future__ import annotations

import re
from time import monotonic
from typing import Any, NamedTuple

from starlette.routing import compile_path
from starlette.types import Scope

from ._fastapi import Route, count_routes, identities, iter_routes, matched, path_below

__all__ = ["RouteTable"]

_FRESH = 1.0  # seconds


class _Candidate(NamedTuple):
    """A route, and what tells it from others behind the same key: one endpoint may serve several."""

    mount: re.Pattern[str]
    path: re.Pattern[str] | None
    route: Route


class RouteTable:
    """Finds the `Route` that served a scope, once the router has matched it.

    Make one per app. It reads the routes from outside of all that the app is mounted in: a template begins
    there.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._outermost = app
        self._count = 0
        self._fresh_until = 0.0
        self.known: dict[int, list[_Candidate]] = {}
        """By what a scope names them; another mapping each time that the routes are read."""
        self._foreign: dict[int, Any] = {}

    def find(self, scope: Scope) -> Route | None:
        """The matched route, or `None` where nothing matched or the match is no endpoint."""
        if monotonic() >= self._fresh_until:
            self.refresh()
        key = matched(scope)
        candidates = self.known.get(id(key)) or self._learn(key, scope)
        if len(candidates) == 1:
            return candidates[0].route
        root = scope.get("root_path", "")
        mounted = root.removeprefix(scope.get("app_root_path", root))  # a mount alone sets the other
        path = path_below(scope)
        here = [each for each in candidates if each.mount.fullmatch(mounted)]
        exact = (each for each in here if each.path is not None and each.path.fullmatch(path))
        found = next(exact, here[0] if here else None)
        return None if found is None else found.route

    def is_one(self, scope: Scope) -> bool:
        """Whether what was matched stands for one route alone, wherever its app is mounted."""
        key = matched(scope)
        return len(self.known.get(id(key)) or self._learn(key, scope)) == 1

    def template(self, scope: Scope) -> str | None:
        """The path template of the matched route, such as `/shops/{shop}/items/{item_id}`."""
        route = self.find(scope)
        return route.path if route is not None else None

    def refresh(self) -> None:
        """Forget what was read if there are more routes now: one endpoint may be served at one place more."""
        self._fresh_until = monotonic() + _FRESH
        if (self.known or self._foreign) and count_routes(self._outermost.routes) != self._count:
            self.known = {}
            self._foreign = {}

    def _learn(self, key: Any, scope: Scope) -> list[_Candidate]:
        """Read the routes again for a key not met before: an app may gain routes after start-up."""
        if key is None or id(key) in self._foreign:
            return []
        known: dict[int, list[_Candidate]] = {}
        router = scope.get("router")  # the first that the request came to
        self._outermost = router if router is not None and _is_seen(self._app, router) else self._app
        self._count = count_routes(self._outermost.routes)
        for route in iter_routes(self._outermost.routes):
            candidate = _Candidate(
                compile_path(route.mount)[0], getattr(route.context, "path_regex", None), route
            )
            for identity in identities(route):
                known.setdefault(id(identity), []).append(candidate)
        self.known = known  # whole: another thread may be reading it
        found = known.get(id(key), [])
        if not found:
            self._foreign[id(key)] = key  # kept alive, so that its id stays its own
        return found


def _is_seen(app: Any, router: Any) -> bool:
    """Whether the routes of `app` can be seen from a router that it is mounted in, at whatever depth."""
    seen = {id(each.endpoint) for each in iter_routes(router.routes)}
    return all(id(each.endpoint) in seen for each in iter_routes(app.routes))
