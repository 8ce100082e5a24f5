"""Where lines go. A sink is any function of a line and its level; these are the usual ones."""

from __future__ import annotations

import io
import logging
import sys
from time import time
from typing import Any, Protocol

from .context import IDS, current

__all__ = ["LineRecord", "LoggerSink", "Sink", "Stream", "StreamSink"]


class Sink(Protocol):
    """Takes a line with its line break, and its level as `logging` numbers them.

    What it raises is counted and goes no further. It is called on the event loop: one that may block
    belongs behind a `QueueSink`. If it has a method `close` (a coroutine function), that is called when the
    app stops.
    """

    def __call__(self, line: bytes, level: int, /) -> None: ...


class Stream(Protocol):
    """What is used of a text or binary stream."""

    def write(self, data: Any, /) -> Any: ...

    def flush(self) -> object: ...


class StreamSink:
    """Writes each line at once to a stream, past its buffer: a line that failed is not written later.

    :param stream: a text or binary stream; by default what `sys.stdout` is at that moment.
    """

    def __init__(self, stream: Stream | None = None) -> None:
        self._given = stream
        self._seen: Any = None
        self._raw: Any = None
        self._is_text = False
        self._torn = False

    def __call__(self, line: bytes, level: int, /) -> None:
        stream = self._given or sys.stdout
        if stream is not self._seen:
            self._look_at(stream)
        if self._is_text:
            self._raw.write(line.decode("utf-8"))
            self._raw.flush()
        elif self._torn:
            self._write(self._raw, b"\n" + line)
        else:
            written = self._raw.write(line)
            if written != len(line):
                self._go_on(self._raw, line, written)

    def _look_at(self, stream: Any) -> None:
        """Find what is below its buffer."""
        buffer = getattr(stream, "buffer", stream)
        self._raw = getattr(buffer, "raw", buffer)
        self._is_text = hasattr(self._raw, "encoding")
        self._seen = stream

    def _write(self, raw: Any, data: bytes) -> None:
        """Write all of it."""
        self._go_on(raw, data, raw.write(data))

    def _go_on(self, raw: Any, data: bytes, written: int | None) -> None:
        """A device may take a part and refuse the rest: the next line starts anew."""
        if written == len(data) or (written is None and not isinstance(raw, io.RawIOBase)):
            self._torn = False
            return
        if written is None:
            raise BlockingIOError("the stream is not ready")
        self._torn = True
        self._write(raw, data[written:])


_NO_IDS = dict.fromkeys(IDS, "-")


class LineRecord(logging.LogRecord):
    """An access line on its way through `logging`, formatted already.

    It has the ids: a formatter made for other records may ask for them.
    """

    def getMessage(self) -> str:  # noqa: N802 -- the name is logging's
        return str(self.msg)


class LoggerSink:
    """Hands each line to a logger, for its handlers to write.

    :param logger: the logger or its name. Its handlers need no formatter, or one that writes the message.
    """

    def __init__(self, logger: logging.Logger | str) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._usual: dict[int, dict[str, object]] = {}

    def __call__(self, line: bytes, level: int, /) -> None:
        logger = self._logger
        if logger.isEnabledFor(level):
            logger.handle(self._record(line[:-1].decode("utf-8"), level))

    def _record(self, text: str, level: int) -> LineRecord:
        """Made from the first one: `logging` would ask again for the names of thread and process."""
        usual = self._usual.get(level)
        if usual is None:
            usual = self._usual[level] = LineRecord(self._logger.name, level, "", 0, "", None, None).__dict__
        created = time()
        context = current.get()
        ids = _NO_IDS if context is None else context.ids()
        record = LineRecord.__new__(LineRecord)
        record.__dict__ = {**usual, **ids, "msg": text, "created": created, "msecs": created % 1 * 1000}
        return record
