"""A sink that may block, kept off the event loop.

Nothing here takes a lock that the event loop would wait for: a thread that was descheduled while it held one
would stop every request. `deque` and `SimpleQueue` are safe on their own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import weakref
from collections import defaultdict, deque
from queue import SimpleQueue

from .._arguments import count, plain_function, seconds
from .sinks import Sink

__all__ = ["QueueSink"]

Line = tuple[int, int, bytes]  # its number, its level, itself


class QueueSink:
    """Lines go into a bounded queue and a thread writes them in order: a slow sink costs no request.

    When the queue is full, lines below ERROR are dropped first, the newest of them; an error line is dropped
    only where nothing else is left to drop. The thread starts with the first line and ends with `close`.

    :param sink: the sink to write to.
    :param capacity: how many lines may wait.
    :param drain: how many seconds `close` waits for the lines that were accepted.
    """

    def __init__(self, sink: Sink, *, capacity: int = 10_000, drain: float = 5.0) -> None:
        self._drain = seconds("drain", drain)
        self._writer = _Writer(plain_function("sink", sink), count("capacity", capacity))
        self._finalizer = weakref.finalize(self, self._writer.stop, drain)  # also when the interpreter ends

    def __call__(self, line: bytes, level: int, /) -> None:
        self._writer.accept(line, level)

    @property
    def dropped(self) -> int:
        """How many lines were not written: refused by a full queue or by the sink, or left when it closed."""
        return self._writer.dropped

    async def close(self) -> None:
        """Write what was accepted, for as long as `drain` allows."""
        await asyncio.to_thread(self._writer.stop, self._drain)


class _Writer:
    def __init__(self, sink: Sink, capacity: int) -> None:
        self._sink = sink
        self._capacity = capacity
        self._numbers = itertools.count()
        self._ordinary: deque[Line] = deque()
        self._errors: deque[Line] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._idle = False
        self._thread: threading.Thread | None = None
        self._dropped: defaultdict[int, int] = defaultdict(int)  # by thread: each writes only its own

    @property
    def dropped(self) -> int:
        return sum(self._dropped.copy().values())

    def accept(self, line: bytes, level: int) -> None:
        lane = self._errors if level >= logging.ERROR else self._ordinary
        if len(self._ordinary) + len(self._errors) >= self._capacity and not self._make_room(lane):
            return
        lane.append((next(self._numbers), level, line))
        if self._thread is None or not self._thread.is_alive():  # a fork leaves it behind
            self._thread = threading.Thread(target=self._run, name="prodkit-log-writer", daemon=True)
            self._thread.start()
        elif self._idle:
            self._idle = False
            self._wake.put(None)

    def stop(self, drain: float) -> None:
        """Let the thread write what waits, and end it; what is left after `drain` seconds is dropped."""
        thread, self._thread = self._thread, None  # by which it knows that it is to end
        if thread is None:
            return
        self._wake.put(None)
        thread.join(drain)
        while thread.is_alive() and self._next() is not None:
            self._drop(1)

    def _make_room(self, lane: deque[Line]) -> bool:
        self._drop(1)
        if lane is self._errors and self._ordinary:
            self._ordinary.pop()
            return True
        return False

    def _drop(self, number: int) -> None:
        self._dropped[threading.get_ident()] += number

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            item = self._next()
            if item is None:
                self._idle = True
                item = self._next()  # one may have come before the flag was seen
                if item is None:
                    if self._thread is not me:
                        return
                    self._wake.get()
                    continue
                self._idle = False
            try:
                self._sink(item[2], item[1])
            except Exception:
                self._drop(1)

    def _next(self) -> Line | None:
        """The oldest line that waits. A lane that was empty is looked at again: lines come while we look."""
        while True:
            error = _first(self._errors)
            ordinary = _first(self._ordinary)
            if _first(self._errors) is error:
                break
        if error is not None and (ordinary is None or error[0] < ordinary[0]):
            return self._errors.popleft()
        try:
            return self._ordinary.popleft()
        except IndexError:  # none waits, or the last one was dropped for an error's sake
            return self._errors.popleft() if self._errors else None


def _first(lane: deque[Line]) -> Line | None:
    try:
        return lane[0]
    except IndexError:
        return None
