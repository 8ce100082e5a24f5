"""Sees the scope that the router writes into.

A middleware that changes a scope has to pass on a copy, says ASGI: the one outside never learns what was
matched.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from .._asgi import EXCHANGE, Place, layers, place_of, sink
from ..errors import ConfigurationError

__all__ = ["witnessed"]


class Witness:
    """Stands inside the user's middlewares."""

    place = Place.WITNESS

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """No coroutine of its own: the app's is returned."""
        exchange = scope.get(EXCHANGE)
        if exchange is not None and exchange.scope is not scope:
            exchange.inside = scope
        return self.app(scope, receive, send)


def witnessed(app: ASGIApp) -> ASGIApp:
    """The app with a witness in its place, where there is one: not around a whole app, nor where a middleware
    hides what it wraps. Where all layers are ours, which pass on the scope itself, none is needed.
    """
    if all(place_of(layer) is not None for layer in layers(app)):
        return app
    witness: Any = Witness(app)
    try:
        return sink(app, witness)
    except ConfigurationError:
        return app
