"""One WebSocket, from its handshake to its close."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Literal

from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from .._asgi import leaves
from .exchange import Exchange, Outcome

__all__ = ["SocketExchange"]

_NORMAL = (1000, 1001)
_RESTART = 1012  # said by servers alone: uvicorn sends it by itself when it stops
_ABNORMAL = (1005, 1006)


class SocketExchange(Exchange):
    """Counts the messages and bytes of a WebSocket and sees who closes it.

    `status` is the handshake's: 101 once accepted, 403 where it was closed before (what servers answer), or
    that of the denial response.
    """

    messages_in = 0
    messages_out = 0
    close_code: int | None = None
    closed_by: Literal["client", "server"] | None = None
    _may_raise = True  # uvicorn's sockets speak a newer ASGI than its requests

    @property
    def outcome(self) -> Outcome:
        error = self.failure
        if error is not None and not isinstance(error, Exception):
            return "client_disconnect" if self.closed_by == "client" else "cancelled"
        if error is not None:
            return "server_error"
        if self.status is not None and self.status != 101:
            return "server_error" if self.status >= 500 else "client_error"
        if self.close_code is None:
            return "client_disconnect" if self.disconnected else "incomplete"
        if self.close_code in _NORMAL or (self.closed_by == "client" and self.close_code == 1005):
            return "ok"
        if self.closed_by == "client":
            return "client_disconnect"
        if self.close_code == _RESTART:
            return "cancelled"
        return "server_error" if self.close_code in (1011, 1013, 1014) else "client_error"

    def add_fields(self, record: dict[str, Any]) -> None:
        record["event.name"] = "websocket.session"
        record["message"] = f"WebSocket {record['http.route']} {self.close_code or self.status or '-'}"
        record["websocket.close_code"] = self.close_code
        record["websocket.closed_by"] = self.closed_by
        record["websocket.messages.received"] = self.messages_in
        record["websocket.messages.sent"] = self.messages_out

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.messages_in += 1
            self.bytes_in += _size(message)
        elif message["type"] == "websocket.disconnect" and self.closed_by is None:
            self.close_code = message.get("code", 1005)
            self.closed_by = "server" if self.close_code == _RESTART else "client"
            self.disconnected = self.close_code in _ABNORMAL
            if self.status is None:
                self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            await self._forward(self._with_id(message))
            self.status = 101
            self.first_byte = perf_counter()
            return
        if kind == "websocket.http.response.start":
            self.status = message["status"]
            message = self._with_id(message)
        await self._forward(message)
        if kind == "websocket.send":
            self.messages_out += 1
            self.bytes_out += _size(message)
        elif kind == "websocket.http.response.body":
            self.bytes_out += len(message.get("body", b""))
        elif kind == "websocket.close" and self.closed_by is None:
            self.closed_by = "server"
            if self.status is None:
                self.status = 403
            else:
                self.close_code = message.get("code", 1000)

    def _with_id(self, message: Message) -> Message:
        name = self._policy.id_header
        headers = [field for field in message.get("headers", ()) if field[0] != name]
        return {**message, "headers": [*headers, (name, self.request_id.encode("latin-1"))]}

    def failed(self, error: BaseException) -> None:
        self._settle()
        if self.closed_by == "client" and self.is_departure(error):
            return
        super().failed(error)
        if isinstance(error, asyncio.CancelledError) or self.closed_by is not None:
            return
        self.closed_by = "server"
        if self.status is None:
            self.status = 500
        elif self.status == 101:
            self.close_code = 1006 if self.close_code is None else self.close_code

    def end(self) -> None:
        self._settle()
        super().end()

    def is_departure(self, error: BaseException) -> bool:
        return all(isinstance(each, WebSocketDisconnect | OSError) for each in leaves(error))

    def _settle(self) -> None:
        """A client that was found gone while the app sent has closed it, without a word."""
        if self.disconnected and self.closed_by is None:
            self.closed_by = "client"
            self.close_code = 1006


def _size(message: Message) -> int:
    data = message.get("bytes")
    return len(data) if data is not None else len((message.get("text") or "").encode("utf-8", "replace"))
