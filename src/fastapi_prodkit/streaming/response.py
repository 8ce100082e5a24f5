"""The writing side of a stream: headers, chunks, errors, the client that leaves, the server that stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .._arguments import seconds
from .._asgi import TELLS_ERRORS, failures_of
from .._shutdown import Shutdown
from ..errors import ConfigurationError, ProblemError
from .feed import Feed

__all__ = ["Items", "StreamResponse"]

Items = AsyncIterable[Any] | Iterable[Any]

logger = logging.getLogger("fastapi_prodkit.streaming")


class StreamResponse(Response):
    """What the three formats share.

    The status goes out with the first item, so that an `HTTPException` before it is an answer like any
    other. When the client leaves, the iterator is closed at once.

    :param items: an iterable; one that is not async runs in threads.
    :param send_timeout: seconds that a client may take to accept a write before it counts as gone.
    :param drain_timeout: seconds that the stream may go on when the app stops.
    :raises ConfigurationError: for something that cannot be iterated, or times that are none.
    """

    head = b""  # goes before the first item
    headers_after: float | None = None  # seconds to wait for a first item before the headers go out
    heartbeat: float | None = None  # seconds without an item before `pulse` goes out
    pulse = b""
    resumes = False  # whether the client comes back by itself, so that a stop is a plain end

    def __init__(
        self,
        items: Items,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        send_timeout: float = 30.0,
        drain_timeout: float = 10.0,
        background: BackgroundTask | None = None,
    ) -> None:
        is_one = isinstance(items, str | bytes | bytearray | Mapping)
        if is_one or not isinstance(items, AsyncIterable | Iterable):
            raise ConfigurationError(
                f"{type(items).__name__} is no iterable of items: give a list of them, or call the generator"
            )
        self.items = items
        self.send_timeout = seconds("send_timeout", send_timeout, endless=True)
        self.drain_timeout = seconds("drain_timeout", drain_timeout, zero=True, endless=True)
        self.status_code = status_code
        self.background = background
        self.init_headers(headers)

    def encoder(self) -> Callable[[Any], bytes]:
        """A function from an item to its bytes."""
        raise NotImplementedError

    def ending(self, problem: ProblemError) -> bytes | None:
        """How an error after the headers is told; `None`: by a connection that breaks off."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _Writing(self, scope, receive, send).run()
        if self.background is not None:
            await self.background()


class _Writing:
    """One response on its way to one client."""

    def __init__(self, response: StreamResponse, scope: Scope, receive: Receive, send: Send) -> None:
        self._response = response
        self._scope = scope
        self._receive = receive
        self._send = send
        self._feed = Feed()
        self._started = False
        self._is_gone = False

    async def run(self) -> None:
        response = self._response
        items: Items = () if self._scope["method"] == "HEAD" else response.items
        producer = asyncio.create_task(self._feed.fill(items, response.encoder()), name="prodkit-stream")
        producer.add_done_callback(lambda _: self._feed.finish())
        watcher = asyncio.create_task(self._watch(), name="prodkit-stream-watcher")
        shutdown = Shutdown.of(self._scope)
        try:
            with shutdown.listening(self._stop_soon) if shutdown is not None else nullcontext():
                await self._write()
                if not self._is_gone:
                    await self._end(producer)
        finally:
            self._feed.close()
            watcher.cancel()
            was_running = producer.cancel()
            await asyncio.wait({producer, watcher})
            untold = was_running or self._is_gone
            if untold and not producer.cancelled() and (error := producer.exception()) is not None:
                logger.error("a stream failed and nobody could be told", exc_info=error)

    async def _write(self) -> None:
        """Send what comes, until nothing more does."""
        response = self._response
        while not self._feed.is_over:
            chunk = await self._feed.take(response.heartbeat if self._started else response.headers_after)
            if chunk:
                await self._put(chunk if self._started else response.head + chunk)
            elif not self._feed.is_over:
                await self._put(response.pulse if self._started else response.head)

    async def _end(self, producer: asyncio.Task[None]) -> None:
        response, error = self._response, self._error(producer)
        rest = self._feed.rest()
        if error is not None and not self._started and not rest:
            raise error
        if not self._started:
            rest = response.head + rest
        if error is None:
            await self._put(rest, more=False)
            return
        ending = response.ending(_problem(error))
        if ending is None or TELLS_ERRORS in self._scope:
            await self._put(rest)
            raise error
        if not isinstance(error, HTTPException):
            failures_of(self._scope).errors.append(error)  # the access record is made at the last byte
        await self._put(rest + ending, more=False)
        if not isinstance(error, HTTPException):
            raise error
        logger.warning("a stream ended early: %d %s", error.status_code, error.detail)

    def _error(self, producer: asyncio.Task[None]) -> BaseException | None:
        if not producer.done():
            if self._response.resumes:
                return None
            return ProblemError(503, "The server is stopping.", headers={"Retry-After": "1"})
        if producer.cancelled():
            return RuntimeError("the generator of a stream cancelled itself")
        return producer.exception()

    async def _put(self, body: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(self._response.send_timeout):
                if not self._started:
                    self._started = True
                    start = {"type": "http.response.start", "status": self._response.status_code}
                    await self._send({**start, "headers": self._response.raw_headers})
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError as error:
            self._is_gone = True
            self._feed.finish()
            logger.debug("the client is gone: %r", error)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self._feed.finish()

    def _stop_soon(self) -> None:
        asyncio.get_running_loop().call_later(self._response.drain_timeout, self._feed.finish)


def _problem(error: BaseException) -> ProblemError:
    """What a client may know of an error."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException) and 400 <= error.status_code <= 599:
        return ProblemError(error.status_code, error.detail)
    return ProblemError(500)
