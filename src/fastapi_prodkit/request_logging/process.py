"""What this component changes in the process, while an app runs: and how it is put back.

The state is kept on the things themselves, which the process has only one of. Two apps in one process hold
it together, and the last one to stop puts it back, in whatever order they stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

from .context import IDS, RequestContext, current

__all__ = ["ProcessHold", "RequestRecord"]

SERVER_ACCESS_LOGGERS = ("uvicorn.access", "hypercorn.access", "gunicorn.access")
T = TypeVar("T")


class RequestRecord(logging.LogRecord):
    """A log record that knows its request.

    Its fields enter the record's dictionary with its message, not before: `logging` refuses an `extra=`
    that names a field which the dictionary has.
    """

    __slots__ = ("_fields",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._look_around()

    def _look_around(self) -> None:
        context: RequestContext | None = current.get()
        self._fields = {} if context is None else context.fields()

    def getMessage(self) -> str:  # noqa: N802 -- the name is logging's
        known = self.__dict__
        for name in IDS:
            known.setdefault(name, self._fields.get(name, "-"))
        known.setdefault("bound", {k: v for k, v in self._fields.items() if k not in IDS})
        return super().getMessage()

    def __getattr__(self, name: str) -> Any:
        if name in IDS:
            return self._fields.get(name, "-")
        raise AttributeError(name)

    def __reduce__(self) -> Any:
        self.getMessage()
        return logging.makeLogRecord, (self.__dict__,)


@cache
def _joined(kind: type[Any]) -> type[RequestRecord]:
    if issubclass(RequestRecord, kind):
        return RequestRecord
    return kind if issubclass(kind, RequestRecord) else type(kind.__name__, (RequestRecord, kind), {})


def _of_request(record: logging.LogRecord) -> logging.LogRecord:
    """The record that somebody's factory made, of its own class, which knows its request now."""
    kind: Any = type(record)
    try:
        known = object.__new__(_joined(kind))
    except TypeError:  # a class with slots cannot be joined
        return record
    known.__dict__ = record.__dict__
    known._look_around()
    return known


class RecordFactory:
    """Makes every record of the process a `RequestRecord`, as long as an app holds it."""

    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self.previous = previous
        self.holders = 0

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        if self.previous is logging.LogRecord and self.holders:
            return RequestRecord(*arguments, **options)
        record = self.previous(*arguments, **options)
        return _of_request(record) if self.holders else record

    @classmethod
    def hold(cls) -> RecordFactory:
        factory = logging.getLogRecordFactory()
        if not isinstance(factory, cls):
            factory = cls(factory)
            logging.setLogRecordFactory(factory)
        factory.holders += 1
        return factory

    def release(self) -> None:
        self.holders -= 1
        if not self.holders and logging.getLogRecordFactory() is self:
            logging.setLogRecordFactory(self.previous)


class Mute(logging.Filter):
    """Silences a logger and takes its handlers off, so that a server does not even make its line."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.holders = 0
        self._logger = logger
        self._handlers = logger.handlers
        self._propagate = logger.propagate
        logger.handlers = []
        logger.propagate = False
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return False

    @classmethod
    def hold(cls, name: str) -> Mute:
        logger = logging.getLogger(name)
        mute = next((each for each in logger.filters if isinstance(each, cls)), None) or cls(logger)
        mute.holders += 1
        return mute

    def release(self) -> None:
        self.holders -= 1
        if not self.holders:
            self._logger.removeFilter(self)
            self._logger.handlers = [*self._handlers, *self._logger.handlers]
            self._logger.propagate = self._propagate


class SocketLineFilter(logging.Filter):
    """Drops the line that uvicorn writes of each WebSocket: it has the query in it, tokens included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (isinstance(record.msg, str) and record.msg.startswith('%s - "WebSocket %s"'))


class ContextExecutor(ThreadPoolExecutor):
    """Runs each call in a copy of its caller's context, as `asyncio.to_thread` does."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


def carry_context_into_executor(loop: asyncio.AbstractEventLoop) -> None:
    """Make the loop's default executor one that carries the context, unless it has one already.

    It belongs to the loop, which shuts it down; nothing is to be put back.
    """
    if getattr(loop, "_default_executor", None) is None:
        loop.set_default_executor(ContextExecutor())


class ProcessHold:
    """All of it, held from the start of an app to its end."""

    def __init__(self, mute: Iterable[str]) -> None:
        self._mute = tuple(mute)
        self._held: list[RecordFactory | Mute] = []
        self._filter = SocketLineFilter()

    def take(self) -> None:
        if not self._held:
            self._held = [RecordFactory.hold(), *(Mute.hold(name) for name in self._mute)]
            logging.getLogger("uvicorn.error").addFilter(self._filter)
            carry_context_into_executor(asyncio.get_running_loop())

    def release(self) -> None:
        logging.getLogger("uvicorn.error").removeFilter(self._filter)
        while self._held:
            self._held.pop().release()
