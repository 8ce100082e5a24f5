"""A resource that is its own dependency: `Annotated[Pool, Depends(pool)]`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from fastapi.params import Depends

from ..errors import ConfigurationError

__all__ = ["Provided", "needs_of"]

T = TypeVar("T")


class Provided(Generic[T]):
    """Made by `Resources.provide`; one value for each event loop that the app runs on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: dict[asyncio.AbstractEventLoop, T] = {}

    async def __call__(self) -> T:
        return self.current()

    def current(self) -> T:
        """The value, for code that nothing can be injected into, such as a background task.

        :raises ConfigurationError: if it has not started on the running event loop.
        """
        try:
            return self._values[asyncio.get_running_loop()]
        except RuntimeError:
            where = "there is no running event loop here: inject it, and pass it on"
        except KeyError:
            where = (
                "it has not started: give the app its Resources, FastAPI(lifespan=resources), and in a "
                "test enter the lifespan, `with TestClient(app) as client:`"
            )
        raise ConfigurationError(f"the resource {self.name} cannot be used: {where}")

    def _put(self, loop: asyncio.AbstractEventLoop, value: T) -> None:
        self._values[loop] = value

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        self._values.pop(loop, None)

    def __repr__(self) -> str:
        return f"<Provided {self.name}>"


def needs_of(factory: Callable[..., Any], name: str) -> dict[str, Provided[Any]]:
    """The parameters of `factory` that are resources: `pool: Annotated[Pool, Depends(pool)]`.

    :raises ConfigurationError: for a parameter without a default that is none.
    """
    needs: dict[str, Provided[Any]] = {}
    parameters = inspect.signature(factory).parameters.values()
    hints = _hints(factory, name) if parameters and not inspect.isclass(factory) else {}
    for parameter in parameters:
        marks = [parameter.default]
        if get_origin(hint := hints.get(parameter.name)) is Annotated:
            marks += get_args(hint)[1:]
        found = next((m.dependency for m in marks if isinstance(m, Depends)), None)
        if isinstance(found, Provided):
            needs[parameter.name] = found
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise ConfigurationError(
                f"the resource {name} asks for {parameter.name!r}, which is no resource: annotate it with "
                "Annotated[Type, Depends(resource)], or give it a default"
            )
    return needs


def _hints(factory: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(factory, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"an annotation of the resource {name} cannot be read: {error}. Inside a function, leave out "
            "`from __future__ import annotations` or write `pool: Pool = Depends(pool)`"
        ) from error
