"""Time as an argument."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """A clock that stands still until it is told to advance. Hand it over wherever a `clock=` is taken.

    :param now: seconds; by default a time in 2026, so that it serves as Unix time as well.
    """

    def __init__(self, now: float = 1_775_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
