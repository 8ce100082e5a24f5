"""One start and stop of the resources, on one event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .._fastapi import mounted_apps
from .._shutdown import STATE_KEY, Shutdown
from .._startup import check_routes
from ..errors import ConfigurationError
from .provided import Provided
from .signals import stop_signals_relayed
from .stack import Stack

__all__ = ["Item", "Run"]

logger = logging.getLogger("fastapi_prodkit.resources")


@dataclass(frozen=True, slots=True)
class Item:
    """A resource as it was handed over: how to make its manager, and who asks for its value."""

    name: str
    make: Callable[..., AbstractAsyncContextManager[Any]]
    start_timeout: float
    takes_app: bool = False
    provided: Provided[Any] | None = None
    needs: Mapping[str, Provided[Any]] = field(default_factory=dict)


class Run:
    """From the start of an app to its end.

    :param start_timeout: seconds that each mounted app may take to start.
    :param stop_timeout: seconds that each resource may take to stop.
    :param notice: seconds between not being ready and the server's own shutdown.
    """

    def __init__(self, app: Any, *, start_timeout: float, stop_timeout: float, notice: float) -> None:
        self._app = app
        self._start_timeout = start_timeout
        self._notice = notice
        self._stack = Stack(stop_timeout=stop_timeout)
        self._shutdown = Shutdown()
        self._state: dict[str, Any] = {STATE_KEY: self._shutdown}
        self._started = False

    @property
    def is_ready(self) -> bool:
        return self._started and not self._shutdown.begun

    @asynccontextmanager
    async def started(self, items: Sequence[Item]) -> AsyncIterator[Mapping[str, Any]]:
        """Start everything; yield the lifespan state; stop everything.

        :raises ConfigurationError: for a wiring that cannot work.
        :raises ExceptionGroup: of what the resources raised when they stopped.
        """
        _check(self._app)
        try:
            for item in items:
                await self._start(item)
            await self._start_mounted_apps([item.make for item in items])
            self._started = True
            with stop_signals_relayed(self._shutdown.begin, notice=self._notice):
                yield self._state
        except BaseException:
            _log(await self._stop(items))
            raise
        _raise(await self._stop(items))

    async def _start(self, item: Item) -> None:
        provided = item.provided
        if provided is None:
            manager = item.make(self._app) if item.takes_app else item.make()
            value = await self._stack.enter(item.name, manager, timeout=item.start_timeout)
            if item.takes_app and isinstance(value, Mapping):
                self._merge(item.name, value)
            return
        loop = asyncio.get_running_loop()
        stand_in = getattr(self._app, "dependency_overrides", {}).get(provided)
        if stand_in is None:
            values = {name: need.current() for name, need in item.needs.items()}
            manager = item.make(**values)
            value = await self._stack.enter(item.name, manager, timeout=item.start_timeout)
            provided._put(loop, value)
        elif _stands_alone(stand_in):
            value = stand_in()
            provided._put(loop, await value if inspect.isawaitable(value) else value)

    async def _start_mounted_apps(self, started: list[Any]) -> None:
        """Servers start the outermost app alone. A lifespan that was handed over is not started again."""
        apps = list(mounted_apps(self._app))
        nested = [
            inner
            for app in apps
            if getattr(app.router.lifespan_context, "starts_mounted_apps", False)
            for inner in mounted_apps(app)
        ]
        for app in apps:
            lifespan = app.router.lifespan_context
            if lifespan in started or app in nested:
                continue
            started.append(lifespan)
            name = f"lifespan of the mounted {type(app).__name__}"
            state = await self._stack.enter(name, lifespan(app), timeout=self._start_timeout)
            self._merge(name, {k: v for k, v in (state or {}).items() if k != STATE_KEY})

    def _merge(self, name: str, state: Mapping[str, Any]) -> None:
        if taken := sorted(state.keys() & self._state.keys()):
            raise ConfigurationError(
                f"{name} puts {', '.join(map(repr, taken))} into the lifespan state, where it is already: "
                "rename one of the two"
            )
        self._state.update(state)

    async def _stop(self, items: Sequence[Item]) -> list[BaseException]:
        self._shutdown.begin()
        errors = [*await self._stack.drain(), *await self._stack.close()]
        for item in items:
            if item.provided is not None:
                item.provided._take(asyncio.get_running_loop())
        return errors


def _raise(errors: list[BaseException]) -> None:
    """Raise what there is; an interruption goes before plain errors, which are then logged."""
    interruption = next((error for error in errors if not isinstance(error, Exception)), None)
    if interruption is not None:
        _log([error for error in errors if error is not interruption])
        raise interruption
    if errors:
        raise BaseExceptionGroup("resources did not stop cleanly", errors)


def _log(errors: list[BaseException]) -> None:
    for error in errors:
        logger.error("%s", "; ".join(error.__notes__), exc_info=error)


def _check(app: Any) -> None:
    check_routes(app)
    if app.router.on_startup or app.router.on_shutdown:
        raise ConfigurationError(
            "FastAPI ignores on_event handlers where lifespan= is set: make each a resource"
        )


def _stands_alone(stand_in: Callable[..., Any]) -> bool:
    """Whether an override gives its value without a request."""
    if inspect.isasyncgenfunction(stand_in) or inspect.isgeneratorfunction(stand_in):
        return False
    return not inspect.signature(stand_in).parameters
