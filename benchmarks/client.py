"""Drives an ASGI app in this process: what is measured is the app, not a client or a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

__all__ = ["Answer", "Client", "opened"]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = [value.decode() for key, value in self.headers if key.decode().lower() == name]
        return ", ".join(values) if values else None


class Client:
    """One kind of request to one app, its scope built beforehand."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        method: str = "GET",
        path: str = "/",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        state: dict[str, Any] | None = None,
    ) -> None:
        self._app = app
        self._body = body
        self._state = state
        self._changes: Callable[[int], dict[str, Any]] | None = None
        self._among = 1
        self._asked = 0
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("203.0.113.9", 50000),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (b"host", b"example.test"),
                (b"user-agent", b"benchmark"),
                (b"accept", b"*/*"),
                *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
            ],
        }

    def vary(self, changes: Callable[[int], dict[str, Any]], among: int) -> None:
        """Let each request of `burn` differ from the last, in one of so many ways, in no order: the next one
        is nowhere near in memory."""
        self._changes = changes
        self._among = among

    async def ask(self, **changes: Any) -> Answer:
        """One request, its answer kept."""
        messages: list[Message] = []

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app({**self._fresh(), **changes}, _receive(self._body), send)
        start = messages[0]
        return Answer(
            start["status"],
            list(start.get("headers", ())),
            b"".join(each.get("body", b"") for each in messages[1:]),
        )

    async def burn(self, count: int, *, at_once: int = 1) -> None:
        """`count` requests, `at_once` of them at any time, their answers dropped."""

        async def worker(share: int) -> None:
            for _ in range(share):
                await self._app(self._fresh(), _receive(self._body), _drop)

        if at_once == 1:
            await worker(count)
        else:
            await asyncio.gather(*(worker(count // at_once) for _ in range(at_once)))

    def _fresh(self) -> dict[str, Any]:
        scope = self._scope.copy()
        if self._state is not None:
            scope["state"] = self._state.copy()
        if self._changes is not None:
            self._asked += 1
            scope.update(self._changes(self._asked * _PRIME % self._among))
        return scope


_PRIME = 514_229  # no factor of it is one of a power of ten, so every way has its turn


class _receive:  # noqa: N801 -- stands for a function; a class makes the cheapest stateful one
    """The body at once; asked again it waits, as a connected client does."""

    __slots__ = ("_asked", "_body")

    def __init__(self, body: bytes) -> None:
        self._asked = False
        self._body = body

    async def __call__(self) -> Message:
        if self._asked:
            await asyncio.get_running_loop().create_future()
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}


async def _drop(message: Message) -> None:
    return None


@asynccontextmanager
async def opened(app: ASGIApp, **request: Any) -> AsyncIterator[Client]:
    """The app between its start-up and its shutdown, as a server would run it."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    running = asyncio.create_task(_lifespan(app, scope, to_app, from_app))
    try:
        await to_app.put({"type": "lifespan.startup"})
        message = await from_app.get()
        if message["type"] != "lifespan.startup.complete":
            raise RuntimeError(f"start-up failed: {message.get('message', '')}")
        yield Client(app, state=state, **request)
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await running


async def _lifespan(
    app: ASGIApp, scope: dict[str, Any], to_app: asyncio.Queue[Message], from_app: asyncio.Queue[Message]
) -> None:
    try:
        await app(scope, to_app.get, from_app.put)
    except Exception as error:
        await from_app.put({"type": "lifespan.startup.failed", "message": repr(error)})
