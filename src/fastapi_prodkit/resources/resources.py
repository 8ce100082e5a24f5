"""The list of what an app needs, which is the app's lifespan."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from .._arguments import seconds
from ..errors import ConfigurationError
from .provided import Provided, needs_of
from .run import Item, Run

__all__ = ["Resources"]

T = TypeVar("T")
Factory = Callable[..., AsyncIterator[T]] | Callable[..., AbstractAsyncContextManager[T]]
Manager = AbstractAsyncContextManager[Any]
Resource = Manager | Callable[[], Manager | AsyncIterator[Any]]
Lifespan = Callable[[Any], Manager | AsyncIterator[Any]]


class Resources:
    """Starts what it is given in order, and stops it in reverse: `FastAPI(lifespan=resources)`.

    On SIGTERM the app is first not ready (`is_ready`, and the readiness of `health`), endless streams end,
    then the server lets requests finish, then tasks drain, and only then the resources are closed.

    :param resources: async context managers, functions that make one, or lifespan functions that take the
        app. What a lifespan function yields goes into the lifespan state.
    :param start_timeout: seconds that each may take to start.
    :param stop_timeout: seconds that each may take to stop.
    :param notice: seconds between not being ready and the server's own shutdown, so that a load balancer
        sees it while requests are still answered. For servers whose handlers `signal.getsignal` knows,
        such as uvicorn.
    :raises ConfigurationError: for something that cannot be entered, or seconds that are no seconds.
    """

    starts_mounted_apps = True

    def __init__(
        self,
        *resources: Resource | Lifespan,
        start_timeout: float = 30.0,
        stop_timeout: float = 30.0,
        notice: float = 0.0,
    ) -> None:
        self._start_timeout = seconds("start_timeout", start_timeout, endless=True)
        self._stop_timeout = seconds("stop_timeout", stop_timeout, endless=True)
        self._notice = seconds("notice", notice, zero=True)
        self._items = [_item(each, start_timeout) for each in resources]
        self._runs: dict[asyncio.AbstractEventLoop, Run] = {}

    @overload
    def provide(self, factory: Callable[..., AsyncIterator[T]], /) -> Provided[T]: ...
    @overload
    def provide(self, factory: Callable[..., AbstractAsyncContextManager[T]], /) -> Provided[T]: ...
    @overload
    def provide(
        self, factory: None = None, /, *, start_timeout: float
    ) -> Callable[[Factory[T]], Provided[T]]: ...

    def provide(self, factory: Any = None, /, *, start_timeout: float | None = None) -> Any:
        """Add a resource that endpoints get by `Annotated[Pool, Depends(pool)]`.

        It decorates an async generator function that yields once, or a function that returns an async
        context manager. Its parameters may be resources themselves, declared the same way.

        :param start_timeout: seconds that this one may take to start.
        :raises ConfigurationError: for another kind of function, or a parameter that is no resource.
        """
        timeout = self._start_timeout if start_timeout is None else start_timeout
        seconds("start_timeout", timeout, endless=True)
        if factory is None:
            return lambda factory: self._provide(factory, timeout)
        return self._provide(factory, timeout)

    @property
    def is_ready(self) -> bool:
        """Whether all has started on the running event loop, and the app is not about to stop."""
        run = self._runs.get(asyncio.get_running_loop())
        return run is not None and run.is_ready

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[Mapping[str, Any]]:
        """The lifespan of `app`."""
        loop = asyncio.get_running_loop()
        if loop in self._runs:
            raise ConfigurationError(
                "these Resources have started already: they belong to one app; a router that has them as "
                "its lifespan and is included twice starts them twice"
            )
        run = self._runs[loop] = Run(
            app, start_timeout=self._start_timeout, stop_timeout=self._stop_timeout, notice=self._notice
        )
        try:
            async with run.started(self._items) as state:
                yield state
        finally:
            del self._runs[loop]

    def _provide(self, factory: Callable[..., Any], start_timeout: float) -> Provided[Any]:
        name = _name_of(factory)
        if _gives_no_manager(factory) or not callable(factory):
            raise ConfigurationError(
                f"{name} provides nothing: decorate an async generator function that yields the resource, "
                "or a function that returns an async context manager"
            )
        provided: Provided[Any] = Provided(name)
        needs = needs_of(factory, name)
        self._items.append(
            Item(name, _manager_function(factory), start_timeout, provided=provided, needs=needs)
        )
        return provided


def _item(resource: Any, start_timeout: float) -> Item:
    name = _name_of(resource)
    if not isinstance(resource, type) and hasattr(resource, "__aenter__") and hasattr(resource, "__aexit__"):
        return Item(name, lambda: resource, start_timeout)
    if _gives_no_manager(resource) or not callable(resource):
        raise ConfigurationError(
            f"{name} cannot be entered: give an async context manager, or a function that returns one"
        )
    make = _manager_function(resource)
    try:
        required = [each for each in inspect.signature(make).parameters.values() if _is_required(each)]
    except ValueError:  # a class of an extension module has no signature
        required = []
    if len(required) > 1:
        raise ConfigurationError(
            f"{name} takes {len(required)} arguments: a resource is made from none, or from the app"
        )
    return Item(name, make, start_timeout, takes_app=bool(required))


def _gives_no_manager(factory: Any) -> bool:
    return inspect.iscoroutinefunction(factory) or inspect.isgeneratorfunction(factory)


def _manager_function(factory: Any) -> Callable[..., AbstractAsyncContextManager[Any]]:
    if inspect.isasyncgenfunction(factory):
        return asynccontextmanager(factory)
    made: Callable[..., AbstractAsyncContextManager[Any]] = factory
    return made


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _name_of(resource: Any) -> str:
    name: str = getattr(resource, "__name__", type(resource).__name__)
    return name
