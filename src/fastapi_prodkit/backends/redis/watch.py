"""When a server that owes replies counts as away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from .calls import Call

__all__ = ["Watch"]

_LATE = 0.02  # seconds; a timer this late means that the loop was stalled, not the server


class Watch:
    """Hangs up on a server from which nothing came for `timeout` seconds while a reply was owed.

    A stall of our own loop is not the server's, and neither is a burst that it works its way through.

    :param calls: those that wait, the oldest first.
    """

    def __init__(self, calls: Sequence[Call], timeout: float, hang_up: Callable[[], None]) -> None:
        self._calls = calls
        self._timeout = timeout
        self._hang_up = hang_up
        self._timer: asyncio.TimerHandle | None = None
        self.heard_at = 0.0
        """The loop's time at the last reply."""
        self.is_late = False
        """Whether it has hung up."""

    def see_to(self, call: Call) -> None:
        """Have it answered in time, as those before it."""
        if self._timer is None:
            self._look_at(call.due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._look, due)

    def _due(self) -> float:
        return max(self._calls[0].due, self.heard_at + self._timeout)

    def _look(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        if not self._calls:
            return
        next_due = now + self._timeout if now - due > _LATE else self._due()
        if next_due > now:
            self._look_at(next_due)
        else:  # the reply may be here: a busy loop runs its timers before it reads
            self._timer = loop.call_later(_LATE, loop.call_soon, self._give_up, self.heard_at)

    def _give_up(self, heard_at: float) -> None:
        """Hang up unless something was read since `heard_at`; by now everything is that is here."""
        self._timer = None
        if not self._calls:
            return
        if self.heard_at != heard_at:
            self._look_at(self._due())
            return
        self.is_late = True
        self._hang_up()
