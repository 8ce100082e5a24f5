"""The layer that captures responses, right around the router."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from .._arguments import count
from .._asgi import Place, lifespan_checked, sink
from .._startup import check_open, check_routes
from .answer import Answer
from .lane import Known, Lane
from .priming import prime
from .slot import Slot, serve

__all__ = ["CacheMiddleware"]


class CacheMiddleware:
    """Installs what `@cache` on routes needs: `app.add_middleware(CacheMiddleware)`, anywhere.

    :param max_urls: how many URLs it remembers the answers of, to give them before the router; half a
        kilobyte each.
    """

    place = Place.DOORWAY
    installs = Place.CACHE

    def __init__(self, app: ASGIApp, *, max_urls: int = 16_384) -> None:
        self.app = sink(app, _Layer(count("max_urls", max_urls)))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return lifespan_checked(self.app, scope, receive, send, check_routes, then=check_open)
        return self.app(scope, receive, send)


class _Layer:
    place = Place.CACHE

    app: ASGIApp

    def __init__(self, max_urls: int) -> None:
        self._primed = 0  # how many routes there were
        self._max_urls = max_urls
        self._lane = Lane(max_urls)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        app = scope["app"]
        if len(app.router.routes) != self._primed:
            prime(app)
            self._primed = len(app.router.routes)
            self._lane = Lane(self._max_urls)  # a way that was learned may lead elsewhere now
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        known = self._lane.known(scope)
        if known is None:
            return serve(Slot(send, dict(scope), self.app, self._lane), scope, receive)
        return self._by_lane(known, scope, receive, send)

    async def _by_lane(self, known: Known, scope: Scope, receive: Receive, send: Send) -> None:
        found = await self._lane.find(known, scope)
        if isinstance(found, Answer):
            await found(scope, receive, send)
        else:
            await serve(Slot(send, dict(scope), self.app, self._lane, found), scope, receive)
