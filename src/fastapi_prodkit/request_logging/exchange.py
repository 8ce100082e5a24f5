"""One request as it crosses the ASGI boundary: what went in, what came out, and how it ended.

The wrappers around `receive` and `send` only count. The request is over when the last byte of the response
was handed to the server, or when the app ended without sending it; what runs afterwards (background tasks)
is not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from types import CoroutineType
from typing import Any, Literal

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from .context import RequestContext
from .identity import Ids
from .timing import server_timing

__all__ = ["Exchange", "HTTPExchange", "Outcome"]

_LAST_WORDS = ("http.response.trailers", "http.response.pathsend")

Outcome = Literal["ok", "client_error", "server_error", "client_disconnect", "cancelled", "incomplete"]


class Exchange(RequestContext):
    """What an HTTP exchange and a WebSocket have in common; calls `over` exactly once, when it is over."""

    __slots__ = (
        "_over",
        "_receive",
        "_send",
        "bytes_in",
        "bytes_out",
        "disconnected",
        "done",
        "error",
        "first_byte",
        "last_byte",
        "parent_id",
        "record",
        "scope",
        "start",
        "status",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ids: Ids,
        parent_id: str | None,
        over: Callable[[Any], None],
    ) -> None:
        super().__init__(*ids)
        self.scope = scope
        self._receive = receive
        self._send = send
        self.parent_id = parent_id
        self._over = over
        self.start = perf_counter()
        self.first_byte: float | None = None
        self.last_byte: float | None = None
        self.bytes_in = self.bytes_out = 0
        self.status: int | None = None
        self.error: BaseException | None = None
        self.disconnected = self.done = False
        self.record: dict[str, Any] = {}

    @property
    def outcome(self) -> Outcome:
        """How it ended, in one word."""
        raise NotImplementedError

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """The app ended with `error`."""
        self.error = error

    def end(self) -> None:
        """The request is over, however it ended; a second call does nothing."""
        if not self.done:
            self.done = True
            self.last_byte = perf_counter()
            self._over(self)

    def body_fields(self) -> dict[str, Any]:
        """What is written of the bodies: nothing, unless it was asked for."""
        return {}

    async def _forward(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # the ASGI specification's word for a client that left, since its version 2.4
            self.disconnected = True
            raise

    def is_departure(self, error: BaseException) -> bool:
        """Whether `error` only says that the client left."""
        return self.disconnected and isinstance(error, ClientDisconnect | OSError)


class HTTPExchange(Exchange):
    """One HTTP request and its response."""

    __slots__ = (
        "_head",
        "_id_header",
        "_last",
        "_pending",
        "_receiving",
        "_server_timing",
        "_trailers",
        "_unread",
        "complete",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ids: Ids,
        parent_id: str | None,
        over: Callable[[Any], None],
        *,
        id_header: bytes,
        unread: bool,
        server_timing: bool,
    ) -> None:
        super().__init__(scope, receive, send, ids, parent_id, over)
        self._id_header = id_header
        self._unread = unread
        self._server_timing = server_timing
        self._head = scope["method"] == "HEAD"
        self._pending: list[Message | Awaitable[Message]] = []
        self._receiving = self._trailers = self._last = self.complete = False

    @property
    def outcome(self) -> Outcome:
        error = self.error
        if error is not None and not self.complete:
            if isinstance(error, Exception) and not self.is_departure(error):
                return "server_error"
            return "client_disconnect" if self.disconnected else "cancelled"
        if self.disconnected:
            return "client_disconnect"
        if not self.complete or self.status is None:
            return "incomplete"
        if self.status >= 500:
            return "server_error"
        return "client_error" if self.status >= 400 else "ok"

    async def receive(self) -> Message:
        self._receiving = True
        try:
            if self._pending:
                pending = self._pending.pop(0)
                message = pending if isinstance(pending, dict) else await pending  # type: ignore[misc]
            else:
                message = await self._receive()
        finally:
            self._receiving = False
        if message["type"] == "http.request":
            self._took(message)
        elif not self._last:  # a server may say that it closed before `send` returns
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            last = not message.get("more_body", False)
            if last:
                self._look_for_departure()
                self._last = not self._trailers
            await self._forward(message)
            if not self._head and not self.disconnected:
                self.bytes_out += len(message.get("body", b""))
            if self._last:
                self._completed()
        elif kind == "http.response.start":
            self.status = message["status"]
            self._trailers = message.get("trailers", False)
            await self._forward(self._with_id(message))
            self.first_byte = perf_counter()
        elif kind in _LAST_WORDS and not message.get("more_trailers", False):
            self._last = True
            await self._forward(message)
            self._completed()
        else:
            await self._forward(message)

    def failed(self, error: BaseException) -> None:
        self.error = error
        if self.status is None and isinstance(error, Exception) and not self.is_departure(error):
            self.status = 500  # what Starlette answers outside of us

    def end(self) -> None:
        if not self.done and not self.complete:
            self._look_for_departure()
        super().end()

    def _completed(self) -> None:
        if not self.done:
            self.complete = not self.disconnected
            super().end()

    def _took(self, message: Message) -> None:
        self.bytes_in += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._unread = False

    def _with_id(self, message: Message) -> Message:
        name = self._id_header
        headers = [field for field in message.get("headers", ()) if field[0] != name]
        headers.append((name, self.request_id.encode("ascii")))
        if self._server_timing:
            headers.append((b"server-timing", server_timing(perf_counter() - self.start, self.timings)))
        return {**message, "headers": headers}

    def _look_for_departure(self) -> None:
        """See whether the server already knows that the client left, without waiting.

        `receive()` is stepped once by hand. It is not while a body waits to be read (that would ask for it,
        or buffer it), nor while the app itself receives: then the message comes by anyway.
        """
        if self._unread or self._receiving or self.disconnected:
            return
        for _ in range(2):
            if self._pending and not _is_last_of_body(self._pending[-1]):
                return
            message = self._step()
            if message is None:
                return
            self._pending.append(message)
            self.disconnected = message["type"] == "http.disconnect"

    def _step(self) -> Message | None:
        step: Any = self._receive()
        if not isinstance(step, CoroutineType):
            self._pending.append(step)
            return None
        try:
            step.send(None)
        except StopIteration as stop:
            message: Message = stop.value
            return message
        except OSError:
            self.disconnected = True
            return None
        step.close()
        return None


def _is_last_of_body(message: Message | Awaitable[Message]) -> bool:
    return (
        isinstance(message, dict)
        and message["type"] == "http.request"
        and not message.get("more_body", False)
    )
