"""How a limit holds, beside how much."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import HTTPConnection

from .._arguments import count, function, instance, text
from ..errors import ConfigurationError
from .bans import Ban
from .calendar import Calendar
from .grammar import Rate
from .keys import Key

__all__ = ["Cost", "Terms", "Test", "units", "value"]

Cost = int | Callable[[HTTPConnection], int | Awaitable[int]]
Test = Callable[[HTTPConnection], bool | Awaitable[bool]]

_STATUSES = "give a set of HTTP status codes, such as {401, 403}"
_NAME = re.compile(r"[ !#-\[\]-~]+")  # an RFC 9651 string that needs no escapes


_MOST = 10**12  # units: beyond any quota, and small enough for every number made of it
_ALGORITHMS = ("gcra", "sliding", "moving", "concurrent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What `RateLimiter.__call__` takes, under the same names.

    :raises ConfigurationError: for what cannot work.
    """

    key: Key
    name: str | None = None
    cost: Cost = 1
    burst: int | None = None
    algorithm: Literal["gcra", "sliding", "moving", "concurrent"] | Calendar = "gcra"
    exempt: Test | None = None
    statuses: AbstractSet[int] | None = None
    ban: Ban | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        function("key", self.key)
        if self.name is not None and not _NAME.fullmatch(text("name", self.name)):
            raise ConfigurationError(
                f"name={self.name!r} cannot stand in a header: use printable ASCII without quotes"
            )
        if not isinstance(self.algorithm, Calendar) and self.algorithm not in _ALGORITHMS:
            raise ConfigurationError(
                f"algorithm={self.algorithm!r}: use 'gcra', 'sliding', 'moving' or Calendar('Europe/Berlin')"
            )
        if self.burst is not None and count("burst", self.burst) and self.algorithm != "gcra":
            raise ConfigurationError(f"burst={self.burst!r} is for algorithm='gcra' alone: leave it out")
        if not callable(self.cost):
            count("cost", self.cost, least=0)
        if self.exempt is not None:
            function("exempt", self.exempt)
        if self.ban is not None:
            instance("ban", self.ban, Ban, "make one with Ban()")
        if self.statuses is not None:
            instance("statuses", self.statuses, AbstractSet, _STATUSES)
            if not self.statuses <= set(range(100, 600)):
                raise ConfigurationError(f"statuses={self.statuses!r}: {_STATUSES}")

    def check(self, rates: tuple[Rate, ...]) -> None:
        """Whether the rates can hold on these terms.

        :raises ConfigurationError: if the cost never fits, or a calendar knows no such window.
        """
        for rate in rates:
            capacity = rate.quota if self.burst is None else self.burst
            if isinstance(self.cost, int) and self.cost > capacity:
                raise ConfigurationError(
                    f"cost={self.cost!r} never fits {capacity} {rate.label}: raise the limit or the burst"
                )
            if isinstance(self.algorithm, Calendar):
                self.algorithm.period(rate.label)


def units(cost: Any) -> int:
    """A cost that was computed: a client may have had its say in it, and must not be given anything.

    :raises ConfigurationError: unless it is a whole number from 0 on.
    """
    return min(count("cost", cost, least=0), _MOST)


async def value(given: Any) -> Any:
    """What a function returned, awaited where it is to be awaited."""
    return await given if isinstance(given, Awaitable) else given
