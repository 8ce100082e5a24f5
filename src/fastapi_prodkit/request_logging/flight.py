"""The details of a request, kept until it is known whether anybody will want them."""

from __future__ import annotations

import logging
from collections import deque

from .._arguments import count
from ..errors import ConfigurationError
from .context import RequestContext, current

__all__ = ["FlightRecorder", "land"]


class FlightRecorder(logging.Handler):
    """A handler in front of another: records below `level` wait, and are written only if their request fails.

    Those at `level` and above go straight through, and so does nothing else outside of a request. A request
    that ends well forgets what it kept. The loggers themselves must let the low records pass: set theirs to
    DEBUG, and give `level` here what it was.

    :param target: the handler that writes.
    :param level: from where on a record does not wait.
    :param capacity: how many records one request keeps; the oldest are forgotten first.
    """

    def __init__(
        self, target: logging.Handler, *, level: int | str = logging.INFO, capacity: int = 200
    ) -> None:
        super().__init__()
        self.target = target
        self.capacity = count("capacity", capacity)
        levels = logging.getLevelNamesMapping()
        if level not in levels and not isinstance(level, int):
            raise ConfigurationError(f"level={level!r} is no level of logging: use {', '.join(levels)}")
        self.passes = levels[level] if isinstance(level, str) else level

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.passes:
            self.target.handle(record)
            return
        context = current.get()
        if context is None or context.landed:
            return
        if context.held is None:
            context.held = deque(maxlen=self.capacity)
        context.held.append((self.target, record))


def land(context: RequestContext, *, write: bool) -> None:
    """The request is over: write what it kept, or forget it."""
    context.landed = True
    held, context.held = context.held, None
    for target, record in held or () if write else ():
        target.handle(record)
