"""Between the task that makes items and the task that writes them.

The producer runs on until it would suspend; only then does the writer get its turn and send everything at
once. Many small items become few writes, and no item waits for another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool

__all__ = ["Feed"]

Encode = Callable[[Any], bytes]

_CHUNK = 16 * 1024  # bytes after which a producer waits for the writer
_SLICE = 0.01  # seconds after which a producer that never suspends lets the event loop turn


class Feed:
    """At most two chunks and one item are held, whatever the producer and the client do."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()  # the one thing that a producer's thread touches
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._is_late = False
        self._is_slow = False
        self._closed = False
        self.is_over = False

    async def take(self, timeout: float | None) -> bytes:
        """What was put since; empty after `timeout` seconds of nothing, or when it is over."""
        self._is_late = False
        timer = asyncio.get_running_loop().call_later(timeout, self._be_late) if timeout is not None else None
        while not (self._chunks or self._is_late or self.is_over):
            self._wake.clear()
            await self._wake.wait()
        if timer is not None:
            timer.cancel()
        return self.rest()

    def rest(self) -> bytes:
        """What was put and not taken yet."""
        taken = b"".join([self._chunks.popleft() for _ in range(len(self._chunks))])
        self._room.set()
        return taken

    def finish(self) -> None:
        """Nothing more is worth waiting for."""
        self.is_over = True
        self._wake.set()

    def close(self) -> None:
        """Nothing is taken any more; the producer stops after its current item."""
        self._closed = True

    async def fill(self, items: AsyncIterable[Any] | Iterable[Any], encode: Encode) -> None:
        """Put all items, encoded. The iterator is closed here, in the task that ran it."""
        if isinstance(items, AsyncIterable):
            await self._fill_async(items, encode)
        else:
            await self._fill_from_threads(items, encode)

    async def _fill_async(self, items: AsyncIterable[Any], encode: Encode) -> None:
        iterator = aiter(items)
        size, turn = 0, 0.0
        try:
            async for item in iterator:
                if self._closed:
                    break
                chunk = encode(item)
                if not self._chunks:  # all was taken, so the event loop has turned
                    size, turn = 0, time.monotonic() + _SLICE
                self._chunks.append(chunk)
                self._wake.set()
                size += len(chunk)
                if size >= _CHUNK or time.monotonic() > turn:
                    await self._taken()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _fill_from_threads(self, items: Iterable[Any], encode: Encode) -> None:
        """One hop to a thread for each chunk, not for each item."""
        loop = asyncio.get_running_loop()
        iterator = iter(items)

        def batch() -> bool:
            size, turn = 0, time.monotonic() + _SLICE
            for item in iterator:
                chunk = encode(item)
                self._chunks.append(chunk)
                if self._is_slow:
                    loop.call_soon_threadsafe(self._wake.set)
                size += len(chunk)
                if self._closed or size >= _CHUNK or time.monotonic() > turn:
                    return False
            return True

        try:
            while not self._closed:
                self._is_slow = False
                slow = loop.call_later(_SLICE, self._be_slow)
                try:
                    finished = await _whole(run_in_threadpool(batch))
                finally:
                    slow.cancel()
                if finished:
                    return
                await self._taken()
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                await _whole(run_in_threadpool(close))

    def _be_slow(self) -> None:
        """A thread has not come back: what it has made goes out, and from now on each item at once."""
        self._is_slow = True
        self._wake.set()

    def _be_late(self) -> None:
        self._is_late = True
        self._wake.set()

    async def _taken(self) -> None:
        """Wait until the writer has taken all."""
        if self._chunks:
            self._room.clear()
            self._wake.set()
            await self._room.wait()


async def _whole(work: Any) -> Any:
    """Await `work` to its end, even when cancelled: a generator that runs in a thread cannot be closed."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
