"""Where a middleware stands.

Starlette builds its stack from the inside out and links the layers by their attribute `app`. The layers of
this package find their place along that chain themselves, so that the order of `add_middleware` lines does
not matter:

    server errors > LOGGING > ERRORS_OUTSIDE > the user's
        > LIMITS > ERRORS_INSIDE > WITNESS > handlers > GATE > CACHE > router
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from enum import IntEnum
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ConfigurationError

__all__ = [
    "EXCHANGE",
    "FAILURES",
    "TELLS_ERRORS",
    "Failures",
    "Layer",
    "Place",
    "failures_of",
    "hoist",
    "layers",
    "leaves",
    "lifespan_checked",
    "lift",
    "place_of",
    "send_raises",
    "sink",
]


class Place(IntEnum):
    """The places from the router outwards; the user's middleware lives below `ERRORS_OUTSIDE`.

    Among it stands what a layer leaves behind that has sunk, a `DOORWAY`: it hands everything on as it is.
    """

    ROUTER = 0
    CACHE = 1
    GATE = 2
    HANDLERS = 3
    WITNESS = 4
    ERRORS_INSIDE = 5
    LIMITS = 6
    DOORWAY = 9
    ERRORS_OUTSIDE = 10
    LOGGING = 11
    FRAME = 12


_MIDDLEWARES = {
    Place.CACHE: "CacheMiddleware",
    Place.GATE: "RateLimitMiddleware",
    Place.WITNESS: "RequestLoggingMiddleware",
    Place.ERRORS_INSIDE: "ProblemMiddleware",
    Place.LIMITS: "RateLimitMiddleware",
    Place.ERRORS_OUTSIDE: "ProblemMiddleware",
    Place.LOGGING: "RequestLoggingMiddleware",
}
"""What a user calls the layers: some are private, and a middleware may have several."""


class Layer(Protocol):
    """A middleware of this package: it says where it belongs."""

    app: ASGIApp
    place: Place

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


EXCHANGE = "fastapi_prodkit.request_logging"
"""In the scope, and in each copy of it: the exchange that is recorded, which has the scope from outside."""
FAILURES = "fastapi_prodkit.failures"
TELLS_ERRORS = "fastapi_prodkit.tells_errors"
"""In the scope where a layer outside tells a client of Server-Sent Events or JSON lines what went wrong."""


class Failures:
    """What went wrong in one exchange and was answered, or logged, where the layers outside do not see it.

    It lies in the scope under `FAILURES`.
    """

    __slots__ = ("aborted", "departure", "errors", "unforeseen")

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        """Logged, each once."""
        self.unforeseen: BaseException | None = None
        """The first that no client was meant to get an answer to."""
        self.aborted = False
        """The body is not to be completed."""
        self.departure: OSError | None = None
        """What the server's `send` raised, because the client had left."""

    def __contains__(self, exc: BaseException) -> bool:
        return any(each is exc for each in self.errors)


def failures_of(scope: Scope) -> Failures:
    """The failures of this exchange so far, also where a middleware passed on a copy of the scope."""
    failures: Failures | None = scope.get(FAILURES)
    if failures is None:
        exchange = scope.get(EXCHANGE)
        outside = scope if exchange is None else exchange.scope
        failures = scope[FAILURES] = outside.setdefault(FAILURES, Failures())
    return failures


def send_raises(scope: Scope) -> bool:
    """Whether `send` may raise an OSError for a client that left: since version 2.4 of ASGI."""
    version: str = scope.get("asgi", {}).get("spec_version", "2.0")
    return version >= "2.4"


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups inside; an exception that is no group is itself."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from leaves(each)
    else:
        yield exc


def layers(app: ASGIApp) -> Iterator[Any]:
    """`app` and every layer inside it, down to the router."""
    node: Any = app
    while node is not None:
        yield node
        node = None if hasattr(node, "routes") else getattr(node, "app", None)


def sink(app: ASGIApp, layer: Layer) -> ASGIApp:
    """Link `layer` in at its place below the user's middleware; return the app to forward to.

    A middleware calls it in its `__init__` and becomes a doorway. Installed twice, the first one stays.

    :raises ConfigurationError: if a middleware inside hides what it wraps, or `app` is a whole app.
    """
    nodes = list(layers(app))
    places = [place_of(node) for node in nodes]
    if isinstance(app, Starlette):
        name = _MIDDLEWARES[layer.place]
        raise ConfigurationError(f"{name} finds no place around an app: use app.add_middleware({name})")
    if layer.place in places:
        return app
    for index, place in enumerate(places):
        if place is not None and place < layer.place:
            layer.app = nodes[index]
            if index == 0:
                return layer
            nodes[index - 1].app = layer
            return app
    raise ConfigurationError(_hidden(layer, nodes[-1]))


def lift(owner: Any, layer: Layer) -> None:
    """Have `layer` moved to its place above the user's middleware, once the stack stands.

    A middleware calls it in its `__init__`, while the stack outside of it is not built yet: the class of
    the outermost middleware is made to finish the job. A move at the first scope would come too late for
    a middleware that refuses before it calls what is inside.

    :param owner: the app whose stack is being built (`app_of` finds it), or `None` where nobody knows it.
    """
    if owner is not None and owner.user_middleware:
        outermost = owner.user_middleware[0]
        ours = [entry for entry in owner.user_middleware if entry.cls is type(layer)]
        if ours != [outermost]:  # else it is this very layer that is being made, outermost already
            outermost.cls = _Finish(outermost, layer)


def hoist(stack: ASGIApp, layer: Layer) -> ASGIApp:
    """Move `layer` to its place above the user's middleware; return what is outermost then.

    :param stack: the stack from outside, or `app.middleware_stack`.
    :raises ConfigurationError: if a middleware outside hides what it wraps.
    """
    nodes = list(layers(stack))
    if layer not in nodes:
        if place_of(nodes[-1]) != Place.ROUTER:
            raise ConfigurationError(_hidden(layer, nodes[-1]))
        return stack
    position = nodes.index(layer)
    for target in range(position):
        place = place_of(nodes[target])
        if place is None or place < layer.place:
            nodes[position - 1].app = layer.app
            layer.app = nodes[target]
            if target == 0:
                return layer
            nodes[target - 1].app = layer
            break
    return stack


class _Finish:
    """Stands in for the class of the outermost middleware, for one construction."""

    def __init__(self, entry: Any, layer: Layer) -> None:
        self.original = entry.cls
        self._entry = entry
        self._layer = layer

    def __call__(self, app: ASGIApp, *args: Any, **kwargs: Any) -> ASGIApp:
        self._entry.cls = self.original
        return hoist(self.original(app, *args, **kwargs), self._layer)


def _hidden(layer: Layer, culprit: object) -> str:
    name = getattr(culprit, "__qualname__", type(culprit).__qualname__)
    return (
        f"{_MIDDLEWARES[layer.place]} cannot find its place: {name} does not keep the app that it wraps in "
        "an attribute `app`. Add that attribute."
    )


async def lifespan_checked(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    check: Callable[[Any], None],
    *,
    then: Callable[[Any], None] = lambda app: None,
) -> None:
    """Run `check` on the app before it starts, then forward its lifespan.

    A middleware calls it for a lifespan scope. However many do, each check runs once.

    :param check: takes the app (`scope["app"]`) and raises what stops the server.
    :param then: as `check`, once the app has started; what it raises stops that again.
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

    async def started(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            then(scope["app"])
        await send(message)

    await app(scope, receive, started)


def place_of(node: object) -> Place | None:
    """Where a layer belongs; `None` for the user's own."""
    place = getattr(node, "place", None)
    if place is Place.DOORWAY and "place" not in vars(type(node)):
        return None  # the user's subclass, which may do more than to hand on
    if isinstance(place, Place):
        return place
    if hasattr(node, "routes"):
        return Place.ROUTER
    if isinstance(node, ExceptionMiddleware):
        return Place.HANDLERS
    if isinstance(node, ServerErrorMiddleware) or type(node).__module__.startswith("fastapi."):
        return Place.FRAME
    return None
