"""Bodies in the record: only asked for, only so long, and without the fields that are secret."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope, Send

from .._arguments import count, names
from .exchange import HTTPExchange, Policy

__all__ = ["Bodies", "CapturingExchange"]

SECRET_FIELDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api_key",
    "private_key",
    "credential",
    "cookie",
    "card_number",
    "cvv",
    "cvc",
    "pin",
    "ssn",
)
_REDACTED = "[redacted]"


class Bodies:
    """Which bodies are written, and what of them.

    Only JSON and URL-encoded forms that were seen whole are written, because only those can be searched for
    secrets; of any other body there is the size in the record.

    :param request: write request bodies.
    :param response: write response bodies.
    :param limit: the longest body to write, in bytes.
    :param redact: names of fields, at any depth, whose values are replaced; a field matches if its name has
        one of them in it, in any case, with or without `_` and `-`: `card_number` is in `newCardNumber` too.
        They are added to the usual ones (`password`, `token`, ...).
    """

    def __init__(
        self,
        *,
        request: bool = True,
        response: bool = False,
        limit: int = 4096,
        redact: Iterable[str] = (),
    ) -> None:
        self.request = request
        self.response = response
        self.limit = count("limit", limit)
        self._secret = tuple(_folded(name) for name in (*SECRET_FIELDS, *names("redact", redact)))

    def readable(self, capture: Capture, headers: Sequence[tuple[bytes, bytes]]) -> Any:
        """The body as a value without secrets, or `None` where there is nothing to show."""
        kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
        data = capture.data
        if data is None or not data:
            return None
        kind = kind.partition(b";")[0].strip().lower()
        try:
            if kind == b"application/json" or kind.endswith(b"+json"):
                return self._without_secrets(json.loads(bytes(data)))
            if kind == b"application/x-www-form-urlencoded":
                pairs = parse_qsl(data.decode("utf-8"), keep_blank_values=True, max_num_fields=1000)
                return self._without_secrets(dict(pairs))
        except (ValueError, RecursionError):
            return None
        return None

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: _REDACTED if self._is_secret(name) else self._without_secrets(each)
                for name, each in value.items()
            }
        if isinstance(value, list):
            return [self._without_secrets(each) for each in value]
        return value

    def _is_secret(self, name: str) -> bool:
        folded = _folded(name)
        return any(secret in folded for secret in self._secret)


def _folded(name: str) -> str:
    """The name as it compares with others: `card_number`, `card-number` and `cardNumber` are one."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


class Capture:
    """A copy of a body as it passes, given up (`None`) once it is longer than allowed."""

    __slots__ = ("_limit", "data")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.data: bytearray | None = bytearray()

    def add(self, chunk: bytes) -> None:
        if self.data is not None:
            if len(self.data) + len(chunk) > self._limit:
                self.data = None
            else:
                self.data += chunk


class CapturingExchange(HTTPExchange):
    """An exchange that keeps copies of its bodies."""

    _whole = False  # the request's body was read to its end

    def __init__(self, scope: Scope, receive: Receive, send: Send, policy: Policy, bodies: Bodies) -> None:
        super().__init__(scope, receive, send, policy)
        self._bodies = bodies
        self._request = Capture(bodies.limit if bodies.request else 0)
        self._response = Capture(bodies.limit if bodies.response else 0)

    def add_fields(self, record: dict[str, Any]) -> None:
        request = response = None
        if self._whole:
            request = self._bodies.readable(self._request, self.scope["headers"])
        if self.complete:
            response = self._bodies.readable(self._response, self.headers)
        if request is not None:
            record["http.request.body.content"] = request
        if response is not None:
            record["http.response.body.content"] = response

    async def receive(self) -> Message:
        message = await super().receive()
        self._request.add(message.get("body", b""))
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._whole = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.body":
            self._response.add(message.get("body", b""))
        return super().send(message)
