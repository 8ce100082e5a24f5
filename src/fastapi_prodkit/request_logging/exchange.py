"""One request as it crosses the ASGI boundary: what went in, what came out, and how it ended.

The wrappers around `receive` and `send` only count. The request is over when the last byte of the response
was handed to the server, or when the app ended without sending it; what runs afterwards (background tasks)
is not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import getrandbits  # ids name a request and protect nothing; a fork reseeds this generator
from time import perf_counter
from types import CoroutineType
from typing import Any, Literal

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from .._asgi import FAILURES, leaves
from .context import RequestContext
from .timing import server_timing

__all__ = ["Exchange", "HTTPExchange", "Outcome", "Policy"]

Outcome = Literal["ok", "client_error", "server_error", "client_disconnect", "cancelled", "incomplete"]

_FILES = ("http.response.pathsend", "http.response.zerocopysend")
_LAST_WORDS = ("http.response.trailers", *_FILES)

# Seconds within which a server has hardly looked at its sockets again: asking it would tell nothing.
_UNNOTICED = 0.001


@dataclass(frozen=True, slots=True)
class Policy:
    """What all exchanges of a middleware have in common.

    :param over: is given each exchange once, when it is over.
    :param raises: whether `send` may raise an OSError for a client that left: since version 2.4 of ASGI.
    """

    over: Callable[[Any], None]
    id_header: bytes
    server_timing: bool
    raises: bool


class Exchange(RequestContext):
    """What an HTTP exchange and a WebSocket have in common."""

    status: int | None = None
    error: BaseException | None = None
    inside: Scope | None = None  # the copy that a middleware passed on, into which the router wrote
    first_byte: float | None = None
    last_byte = 0.0
    bytes_in = 0
    bytes_out = 0
    disconnected = False
    done = False
    unread = False  # a body waits to be read
    _may_raise = False  # `send`, whatever the policy says
    record: dict[str, Any] | None = None

    def __init__(self, scope: Scope, receive: Receive, send: Send, policy: Policy) -> None:
        # random bits: 128 for the trace, which lend the request its id where the trace begins with it, and 64
        digits = getrandbits(192).to_bytes(24, "little").hex()
        self.request_id = self.trace_id = digits[:32]
        self.span_id = digits[32:]
        self.scope = scope
        self._receive = receive
        self._send = send
        self._policy = policy
        if not (policy.raises or self._may_raise):
            self._forward = send  # type: ignore[method-assign, assignment]  # in place of the method
        self.start = perf_counter()

    @property
    def id_header(self) -> str:
        return self._policy.id_header.decode("latin-1")

    @property
    def outcome(self) -> Outcome:
        """How it ended, in one word."""
        raise NotImplementedError

    async def receive(self) -> Message:
        raise NotImplementedError

    def send(self, message: Message) -> Awaitable[None]:
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """The app ended with `error`."""
        self.error = error

    @property
    def failure(self) -> BaseException | None:
        """What broke it: what the app let out, or what a layer inside answered and told of in the scope."""
        if self.error is None:
            failures = self.scope.get(FAILURES)
            return failures.errors[0] if failures is not None and failures.errors else None
        return self.error

    def end(self) -> None:
        """The request is over, however it ended; a second call does nothing."""
        if not self.done:
            self.done = True
            self.last_byte = perf_counter()
            self._policy.over(self)

    async def _forward(self, message: Message) -> None:
        """Send, and see the client leave. It is looked up, not kept: that would be a cycle."""
        try:
            await self._send(message)
        except OSError:
            self.disconnected = True
            raise

    def add_fields(self, record: dict[str, Any]) -> None:
        """What this kind of exchange knows beyond the fields that all have."""

    def is_departure(self, error: BaseException) -> bool:
        """Whether `error` only says that the client left."""
        kinds = (ClientDisconnect, OSError) if self.disconnected else ClientDisconnect
        return all(isinstance(each, kinds) for each in leaves(error))


class HTTPExchange(Exchange):
    """One HTTP request and its response."""

    complete = False
    headers: Sequence[tuple[bytes, bytes]] = ()  # of the response
    _receiving = False
    _trailers = False
    _last = False
    _pending: list[Message | Awaitable[Message]] | None = None

    @property
    def outcome(self) -> Outcome:
        error = self.failure
        if error is not None and not self.complete:
            if isinstance(error, Exception) and not self.is_departure(error):
                return "server_error"
            gone = self.disconnected or self.is_departure(error)
            return "client_disconnect" if gone else "cancelled"
        if self.disconnected:
            return "client_disconnect"
        if not self.complete or self.status is None:
            return "incomplete"
        if self.status < 400:
            return "ok" if error is None else "server_error"  # the stream itself said that it broke
        return "client_error" if self.status < 500 else "server_error"

    async def receive(self) -> Message:
        self._receiving = True
        try:
            message = await (self._handed_over() if self._pending else self._receive())
        finally:
            self._receiving = False
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.unread = False
        elif not self._last:  # a server may say that it closed before `send` returns
            self.disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """No coroutine of its own: what is not the end costs one call more, and nothing to wait through."""
        if message.get("more_body"):
            self.bytes_out += len(message.get("body", b""))
            return self._forward(message)
        if message["type"] != "http.response.start":
            return self._send_rest(message)
        self.status = message["status"]
        self.first_byte = perf_counter()
        if "trailers" in message:
            self._trailers = message["trailers"]
        policy = self._policy
        name = policy.id_header
        fields = message.get("headers", ())
        # a new list: the one in the message may belong to a response that is used again
        headers = self.headers = [*fields, (name, self.request_id.encode("latin-1"))]
        for field in fields:
            if field[0] == name:
                headers.remove(field)
        if policy.server_timing:
            headers.append((b"server-timing", server_timing(perf_counter() - self.start, self.timings or {})))
        return self._forward({**message, "headers": headers})

    async def _send_rest(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            last = not self._trailers
            size = len(message.get("body", b""))
        else:
            last = kind in _LAST_WORDS and not message.get("more_trailers", False)
            size = self._announced if kind in _FILES else 0
        if last:
            if perf_counter() - self.start > _UNNOTICED:
                self._look_for_departure()
            self._last = True
        await self._forward(message)
        if not self.disconnected:
            self.bytes_out += size
        if last and not self.done:
            self.complete = not self.disconnected
            if self.scope["method"] == "HEAD":
                self.bytes_out = 0
            self.done = True
            self.last_byte = perf_counter()
            self._policy.over(self)

    @property
    def _announced(self) -> int:
        """The length of a file that the server reads: its bytes do not come by."""
        length = next((value for name, value in self.headers if name.lower() == b"content-length"), b"")
        return int(length) if length.isdigit() else 0

    def failed(self, error: BaseException) -> None:
        self.error = error
        if not self.done:
            self._look_for_departure()
        if self.status is None and isinstance(error, Exception) and not self.is_departure(error):
            self.status = 500  # what Starlette answers outside of us

    def end(self) -> None:
        if not self.done:
            self._look_for_departure()
            super().end()

    async def _handed_over(self) -> Message:
        assert self._pending
        pending: Any = self._pending.pop(0)
        message: Message = pending if isinstance(pending, dict) else await pending
        return message

    def _look_for_departure(self) -> None:
        """See whether the server already knows that the client left, without waiting.

        `receive()` is stepped once by hand. It is not while a body waits to be read (that would ask for it,
        or buffer it), nor while the app itself receives: then the message comes by anyway.
        """
        if self.unread or self._receiving or self.disconnected:
            return
        pending = self._pending = self._pending or []
        for _ in range(2):
            if pending and not _is_last_of_body(pending[-1]):
                return
            message = self._step(pending)
            if message is None:
                return
            pending.append(message)
            self.disconnected = message["type"] == "http.disconnect"

    def _step(self, pending: list[Message | Awaitable[Message]]) -> Message | None:
        step: Any = self._receive()
        if not isinstance(step, CoroutineType):
            pending.append(step)
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
