"""Hearing that the server was told to stop, before it starts to wait for open connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["stop_signals_relayed"]


@contextmanager
def stop_signals_relayed(begin: Callable[[], None], *, notice: float) -> Iterator[None]:
    """While open, SIGTERM and SIGINT call `begin` on the running loop, then the server's own handler.

    Outside the main thread, and for signals that nobody handles, nothing changes.

    :param notice: seconds between the two; a second signal does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    told = over = False

    def relay(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if over:  # a handler that someone put on top may still call it
            handlers[number](number, frame)
            return
        loop.call_soon_threadsafe(begin)
        if told or not notice:
            handlers[number](number, frame)
        else:
            told = True
            loop.call_soon_threadsafe(loop.call_later, notice, handlers[number], number, None)

    for stop in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(stop)
        if callable(handler):
            handlers[stop] = handler
            signal.signal(stop, relay)
    try:
        yield
    finally:
        over = True
        for number, handler in handlers.items():
            if signal.getsignal(number) is relay:
                signal.signal(number, handler)
