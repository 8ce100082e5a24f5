"""Calls that wait for their replies, and what they see of an error."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import AskError

from ...errors import ConfigurationError, UnavailableError

__all__ = ["Call", "forget", "unavailable", "unreachable"]


class Call:
    """One or more commands whose replies are awaited together."""

    __slots__ = ("due", "expected", "replies", "waiter")

    def __init__(self, waiter: asyncio.Future[Any], expected: int, due: float) -> None:
        self.waiter = waiter
        self.expected = expected
        self.due = due
        self.replies: list[Any] = []

    def settle(self) -> None:
        """Hand over the replies; of several errors the first."""
        if self.waiter.done():
            return
        for reply in self.replies:
            if isinstance(reply, Exception):
                self.waiter.set_exception(reply)
                return
        self.waiter.set_result(self.replies)

    def fail(self, error: UnavailableError) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)


def forget(told: asyncio.Future[Any]) -> None:
    """Nobody waits for this one: what became of it is no news."""
    told.add_done_callback(lambda done: done.cancelled() or done.exception())


def unavailable(error: BaseException) -> UnavailableError:
    """What a caller sees of an error of the client library."""
    text = f"the Redis server did not answer: {type(error).__name__}: {error}"
    if isinstance(error, AskError):
        text += " (it is part of a cluster: write redis+cluster:// in the URL)"
    wrapped = UnavailableError(text)
    wrapped.__cause__ = error
    return wrapped


def unreachable(*, is_open: bool) -> Exception:
    """What a caller sees of a link that is down, or that was never opened where it is used."""
    if is_open:
        return UnavailableError("no connection to the Redis server")
    return ConfigurationError(
        "the Redis backend is not open on this event loop: hand it to Resources(backend), or use "
        "`async with backend:`"
    )
