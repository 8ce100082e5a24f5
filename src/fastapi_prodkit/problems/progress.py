"""How far a response, or a socket, has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import WebSocketException
from starlette.types import Message, Receive, Send

from .._asgi import Failures
from .registry import may_be_sent

__all__ = ["END", "Response", "Socket", "departures_told"]

END = 4  # bytes that say whether an event or a line is whole, however they were cut into chunks

Deny = Callable[["Socket", WebSocketException], Awaitable[None]]


class Response:
    """The `send` of an HTTP request; it remembers what went through.

    :param failures: those of the request, for a `send` outside of the user's middlewares.
    """

    __slots__ = ("complete", "failures", "headers", "last", "send")

    def __init__(self, send: Send, failures: Failures | None = None) -> None:
        self.send = send
        self.failures = failures
        self.headers: tuple[tuple[bytes, bytes], ...] | None = None
        self.last: bytes = b""
        self.complete = False

    @property
    def started(self) -> bool:
        return self.headers is not None

    def header(self, name: bytes) -> bytes:
        """The first field of this name; empty where there is none."""
        for key, value in self.headers or ():
            if key.lower() == name:
                return value
        return b""

    def __call__(self, message: Message) -> Awaitable[None]:
        """What the server's `send` returns is returned, not awaited: that saves a coroutine a message."""
        kind = message["type"]
        if kind == "http.response.body":
            if self.failures is not None and self.failures.aborted:
                return _nothing()  # a middleware that ends the body in good order would make half look whole
            body = message.get("body", b"")
            if body:
                self.last = body if len(body) >= END else self.last[-END:] + body
            self.complete = not message.get("more_body", False)
        elif kind == "http.response.start":
            self.headers = tuple(message.get("headers") or ())  # a copy: those outside change the message
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            self.complete = not message.get("more_body", False)
        return self.send(message)


def departures_told(send: Send, failures: Failures) -> Send:
    """The server's `send`, which tells by an OSError that the client left; any other is the app's own."""

    async def told(message: Message) -> None:
        try:
            await send(message)
        except OSError as departure:
            failures.departure = departure
            raise

    return told


async def _nothing() -> None:
    return None


class Socket:
    """Both ends of a WebSocket; it remembers whether it is open, and cuts a reason that no frame could hold.

    :param deny: sends an HTTP response in place of a close before accept, which would reach the client as
        a bare 403 without its code and reason; `None` where the server cannot.
    """

    __slots__ = ("_deny", "_receive", "_send", "accepted", "closed")

    def __init__(self, receive: Receive, send: Send, deny: Deny | None) -> None:
        self._receive = receive
        self._send = send
        self._deny = deny
        self.accepted = False
        self.closed = False

    @property
    def deniable(self) -> bool:
        return self._deny is not None and not self.accepted and not self.closed

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closed = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.close" and self.deniable:
            assert self._deny is not None
            await self._deny(self, WebSocketException(message.get("code", 1000), message.get("reason")))
            return
        if kind == "websocket.accept":
            self.accepted = True
        elif kind == "websocket.close":
            self.closed = True
            code = message.get("code", 1000)
            if not may_be_sent(code):
                code = 1011  # a server breaks the connection off that is told to send another
            message = {**message, "code": code, "reason": _cut(message.get("reason") or "")}
        elif kind == "websocket.http.response.start":
            self.closed = True
        await self._send(message)

    async def close(self, code: int, reason: str) -> None:
        await self.send({"type": "websocket.close", "code": code, "reason": reason})


def _cut(reason: str) -> str:
    """At most 123 bytes of UTF-8: what fits into a close frame (RFC 6455, 5.5)."""
    return reason.encode(errors="replace")[:123].decode(errors="ignore")
