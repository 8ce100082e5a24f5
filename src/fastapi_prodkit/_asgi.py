"""Where a middleware stands.

Starlette builds its stack from the inside out and links the layers by their attribute `app`. The layers of
this package find their place along that chain themselves, so that the order of `add_middleware` lines does
not matter:

    server errors > LOGGING > ERRORS_OUTSIDE > the user's > LIMITS > ERRORS_INSIDE > handlers > CACHE > router
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, Protocol

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ConfigurationError

__all__ = ["Layer", "Place", "hoist", "layers", "lifespan_checked", "sink"]


class Place(IntEnum):
    """The places from the router outwards; the user's middleware lives below `ERRORS_OUTSIDE`."""

    ROUTER = 0
    CACHE = 1
    HANDLERS = 2
    ERRORS_INSIDE = 3
    LIMITS = 4
    ERRORS_OUTSIDE = 10
    LOGGING = 11
    FRAME = 12


class Layer(Protocol):
    """A middleware of this package: it says where it belongs."""

    app: ASGIApp
    place: Place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def layers(app: ASGIApp) -> Iterator[Any]:
    """`app` and every layer inside it, down to the router."""
    node: Any = app
    while node is not None:
        yield node
        node = None if hasattr(node, "routes") else getattr(node, "app", None)


def sink(app: ASGIApp, layer: Layer) -> ASGIApp:
    """Link `layer` in at its place below the user's middleware; return the app to forward to.

    A middleware calls it in its `__init__` and becomes a doorway. Installed twice, the first one stays.

    :raises ConfigurationError: if a middleware inside hides what it wraps.
    """
    nodes = list(layers(app))
    places = [_place_of(node) for node in nodes]
    if layer.place in places:
        return app
    for index, place in enumerate(places):
        if place is not None and place < layer.place:
            layer.app = nodes[index]
            if index == 0:
                return layer
            nodes[index - 1].app = layer
            return app
    raise ConfigurationError(
        f"{type(layer).__name__} cannot find its place: {type(nodes[-1]).__name__} does not keep the "
        "app that it wraps in an attribute `app`. Add that attribute, or install ours before it."
    )


def hoist(stack: ASGIApp, layer: Layer) -> None:
    """Move `layer` to its place above the user's middleware, once the stack is built.

    :param stack: the whole stack, `app.middleware_stack`.
    """
    nodes = list(layers(stack))
    position = nodes.index(layer) if layer in nodes else 0
    for target in range(1, position):
        place = _place_of(nodes[target])
        if place is None or place < layer.place:
            nodes[position - 1].app = layer.app
            layer.app = nodes[target]
            nodes[target - 1].app = layer
            return


async def lifespan_checked(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, check: Callable[[Any], None]
) -> None:
    """Run `check` on the app before it starts, then forward its lifespan.

    A middleware calls it for a lifespan scope. However many do, each check runs once.

    :param check: takes the app (`scope["app"]`) and raises what stops the server.
    :raises ConfigurationError: what `check` raised, once the server was told by `lifespan.startup.failed`.
    """
    checked = scope.setdefault("fastapi_prodkit.checked", set())
    if check not in checked:
        checked.add(check)
        try:
            check(scope["app"])
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
    await app(scope, receive, send)


def _place_of(node: object) -> Place | None:
    place = getattr(node, "place", None)
    if isinstance(place, Place):
        return place
    if hasattr(node, "routes"):
        return Place.ROUTER
    if isinstance(node, ExceptionMiddleware):
        return Place.HANDLERS
    if isinstance(node, ServerErrorMiddleware) or type(node).__module__.startswith("fastapi."):
        return Place.FRAME
    return None
