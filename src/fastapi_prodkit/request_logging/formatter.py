"""The records of `logging` in the format of the access records, so that a log is of one kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .._arguments import plain_function
from .._traceback import traceback_text
from . import formats
from .context import IDS, current
from .record import Record, Timestamps, add_bound
from .sinks import LineRecord

__all__ = ["LineFormatter"]

_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    *IDS,
    "asctime",
    "bound",
    "color_message",  # uvicorn's, its message once more with ANSI codes
    "message",
    "taskName",
}


class LineFormatter(logging.Formatter):
    """Makes one line of a record: its message, level and logger, its request's ids and what was bound, its
    `extra` fields, and the type and traceback of an exception.

    :param format: a function from a record to one line, the same as the middleware's.
    :param exception_text: also what exceptions say. It may hold a secret: a validator's message, a URL with a
        password, a row of the database.
    """

    def __init__(
        self, *, format: Callable[[Record], bytes | str] = formats.otel, exception_text: bool = False
    ) -> None:
        super().__init__()
        self._format = plain_function("format", format)
        self._exception_text = exception_text
        self._timestamps = Timestamps()

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, LineRecord):
            return str(record.msg)
        line = self._format(self._fields(record))
        return line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line

    def _fields(self, record: logging.LogRecord) -> Record:
        fields: Record = {
            "timestamp": self._timestamps(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        context = current.get()
        for name in IDS:
            value = getattr(record, name, None) or (getattr(context, name) if context is not None else None)
            if value not in (None, "-"):
                fields[name] = value
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            kind = type(error)
            fields["exception.type"] = f"{kind.__module__}.{kind.__qualname__}"
            if self._exception_text:
                fields["exception.message"] = str(error)
            fields["exception.stacktrace"] = traceback_text(error, texts=self._exception_text)
        if record.stack_info:
            fields["code.stacktrace"] = record.stack_info
        bound: dict[str, Any] | None = getattr(record, "bound", None)
        if bound is None:
            bound = context.bound if context is not None else None
        add_bound(fields, bound or {})
        add_bound(fields, {k: v for k, v in record.__dict__.items() if k not in _OWN})
        return fields
