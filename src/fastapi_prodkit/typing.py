"""The ports: what a component needs of the place where it keeps things.

A backend is one class per port. Any class with these methods is one; nothing has to be inherited.
`fastapi_prodkit.testing` ships a contract suite for each port.

Every method may raise `UnavailableError` when the place does not answer in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

__all__ = [
    "Algorithm",
    "Backend",
    "Bus",
    "Charge",
    "Counters",
    "Drainable",
    "Limit",
    "Store",
    "Verdict",
]


@runtime_checkable
class Store(Protocol):
    """Bytes with a lifetime in seconds. A store may forget any key early, but never invents one."""

    async def get(self, *keys: str) -> list[bytes | None]:
        """The value of each key, `None` where there is none, in one round trip."""
        ...

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        """Hold `value` for `ttl` seconds, in place of what was there."""
        ...

    async def add(self, key: str, value: bytes, *, ttl: float) -> bytes:
        """Hold `value` unless the key is held already; return what the key holds now.

        Atomic: of many callers exactly one gets its own value back. It is what a lease is made of.
        """
        ...

    async def release(self, key: str, value: bytes) -> bool:
        """Delete the key if it still holds `value`; whether it did. Atomic."""
        ...

    async def delete(self, *keys: str) -> None:
        """Forget the keys."""
        ...


@runtime_checkable
class Bus(Protocol):
    """Messages to everyone who listens now, in every process."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Hand `message` to every subscriber of `channel`."""
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[bytes | None]]:
        """Listen to `channel`. Once entered, every later `publish` that succeeds is delivered.

        The iterator yields messages in their order, and `None` where some may have been lost: the
        connection was down, or this listener was too slow. It never ends by itself.
        """
        ...


Algorithm = Literal["gcra", "sliding", "moving", "calendar", "concurrent"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `quota` units in `window` seconds.

    :param name: sets its count apart from the subject's other counts; a changed quota keeps the count.
    :param burst: how many units may come at once (`gcra` alone; the others take the quota).
    :param algorithm: `gcra` refills evenly, `sliding` weighs two fixed windows, `moving` keeps every charge
        of the last window, `calendar` starts anew with each period, `concurrent` counts the tokens that were
        charged in the last window and not given back.
    :param period: for `calendar`, the start and end (Unix time) of the period that holds a time.
    """

    name: str
    quota: int
    window: float
    burst: int
    algorithm: Algorithm = "gcra"
    period: Callable[[float], tuple[float, float]] | None = None
    capacity: int = field(init=False)
    """The most units that can be there at once."""
    interval: float = field(init=False)
    """Seconds in which one unit comes back."""
    room: float = field(init=False)
    """The used units up to which a cost fits: the capacity, and what comes back in a microsecond, so that who
    paces himself exactly does not lose by rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "capacity", self.burst if self.algorithm == "gcra" else self.quota)
        object.__setattr__(self, "interval", self.window / self.quota)
        object.__setattr__(self, "room", self.capacity + 1e-6 * (1.0 + 1.0 / self.interval))


class Charge(NamedTuple):
    """What one subject is to be charged with, by each of its limits.

    :param subject: who; already hashed where it names a person.
    :param cost: in units; below 0 it gives back.
    :param dry: the cost has to fit, but is not charged.
    :param token: for `concurrent`, what is held; charged again it is held for another window.
    """

    subject: str
    limits: tuple[Limit, ...]
    cost: int = 1
    dry: bool = False
    token: str = ""


class Verdict(NamedTuple):
    """What one limit says.

    :param admitted: whether the cost fits this limit.
    :param remaining: units left, after what was charged.
    :param reset: seconds until every unit is there again.
    :param retry: seconds until the cost fits; 0 where it does, `math.inf` where it never will.
    """

    admitted: bool
    remaining: int
    reset: float
    retry: float


@runtime_checkable
class Counters(Protocol):
    """Counts against limits, by one clock for all who share them."""

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        """One verdict for each limit of each charge, in their order.

        All or nothing: unless every limit admits its cost, none is charged. With `force` all are charged,
        even beyond the limit. No limit is named twice for one subject. Atomic, but for subjects that a
        cluster holds on different servers.
        """
        ...

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        """Forget what the subject was charged with."""
        ...


@runtime_checkable
class Backend(Protocol):
    """One place with all the ports, opened by `async with`."""

    @property
    def store(self) -> Store: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def counters(self) -> Counters: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None: ...


@runtime_checkable
class Drainable(Protocol):
    """Holds work that should be finished before the resources that the work needs are closed."""

    async def drain(self) -> None:
        """Finish the work, or give up after a time of its own choice."""
        ...
