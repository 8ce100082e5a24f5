"""Where lines go. A sink is any function of a line and its level; these are the usual ones."""

from __future__ import annotations

import sys
from typing import Any, Protocol

__all__ = ["Sink", "StreamSink"]


class Sink(Protocol):
    """Takes a line with its line break, and its level as `logging` numbers them.

    What it raises is counted and goes no further. It is called on the event loop: one that may block
    belongs behind a `QueueSink`. If it has a method `close`, that is called when the app stops.
    """

    def __call__(self, line: bytes, level: int, /) -> None: ...


class Stream(Protocol):
    """What is used of a text or binary stream."""

    def write(self, data: Any, /) -> object: ...

    def flush(self) -> object: ...


class StreamSink:
    """Writes each line at once to a stream.

    :param stream: a text or binary stream; by default what `sys.stdout` is at that moment.
    """

    def __init__(self, stream: Stream | None = None) -> None:
        self._stream = stream

    def __call__(self, line: bytes, level: int, /) -> None:
        stream: Any = sys.stdout if self._stream is None else self._stream
        binary = getattr(stream, "buffer", None)
        if binary is not None:
            binary.write(line)
        elif hasattr(stream, "encoding"):
            stream.write(line.decode("utf-8"))
        else:
            stream.write(line)
        stream.flush()
