"""How far a response, or a socket, has come."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send

__all__ = ["FAILURES", "Failures", "Response", "Socket", "failures_of"]

FAILURES = "fastapi_prodkit.failures"


class Failures:
    """What went wrong in one request and was logged already; it lies in the scope under `FAILURES`."""

    __slots__ = ("aborted", "errors")

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.aborted = False

    def __contains__(self, exc: BaseException) -> bool:
        return any(each is exc for each in self.errors)


def failures_of(scope: Scope) -> Failures:
    """The failures of this request so far."""
    failures: Failures = scope.setdefault(FAILURES, Failures())
    return failures


class Response:
    """The `send` of an HTTP request; it remembers what went through."""

    __slots__ = ("complete", "failures", "last", "send", "start")

    def __init__(self, send: Send, failures: Failures) -> None:
        self.send = send
        self.failures = failures
        self.start: Message | None = None
        self.last: bytes = b""
        self.complete = False

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            if self.failures.aborted:
                return  # a middleware that ends the body in good order would make half of it look whole
            self.last = message.get("body") or self.last
            self.complete = not message.get("more_body", False)
        elif kind == "http.response.start":
            self.start = message
        elif kind == "http.response.pathsend":
            self.complete = True
        await self.send(message)


class Socket:
    """Both ends of a WebSocket; it remembers whether it is open."""

    __slots__ = ("_receive", "_send", "accepted", "closed")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.accepted = False
        self.closed = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closed = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
        elif kind in ("websocket.close", "websocket.http.response.start"):
            self.closed = True
        await self._send(message)

    async def close(self, code: int, reason: str) -> None:
        await self.send({"type": "websocket.close", "code": code, "reason": cut(reason)})


def cut(reason: str) -> str:
    """At most 123 bytes of UTF-8: what fits into a close frame (RFC 6455, 5.5)."""
    return reason.encode(errors="replace")[:123].decode(errors="ignore")


def header_of(message: Any, name: bytes) -> bytes:
    """The first field of this name in a start message."""
    for key, value in message.get("headers") or ():
        if key.lower() == name:
            return bytes(value)
    return b""
