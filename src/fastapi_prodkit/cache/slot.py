"""The place in a scope through which a cached endpoint and the capturing layer work together.

An endpoint cannot reach `send`, and the layer cannot know what the endpoint knows. So the layer leaves a
slot in the scope; the endpoint that misses puts its ticket in and returns its value unchanged; FastAPI
serialises as ever; and the slot, which is also `send`, keeps status, header fields and bytes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._grafts import around_router
from .._handling import broke_the_answer
from .engine import Found
from .entry import Entry
from .http import Pair, cache_status, etag_of, is_unchanged, not_modified, value_of
from .lane import Lane
from .storable import Capture, Kept, keep
from .ticket import Ticket

__all__ = ["SLOT", "Slot", "replay", "serve", "slot_of"]

SLOT = "fastapi_prodkit.cache"
_PATIENCE = 1.0  # seconds


class Slot:
    """One request's. Until it is armed it hands messages through.

    :param send: of the server.
    :param original: the scope as it was before the router; `live` is the one that the router writes to.
    :param router: what to call to have the same request answered again.
    :param lane: what to teach the way to this answer.
    :param found: what the lane found, but could not answer with.
    :param refresh: the ticket that this request is there to fill: nobody waits for its response.
    """

    __slots__ = (
        "_body",
        "_entry",
        "_head",
        "_send",
        "_size",
        "_started_in",
        "capture",
        "found",
        "lane",
        "live",
        "note",
        "original",
        "refresh",
        "returned",
        "router",
        "spent",
    )

    def __init__(
        self,
        send: Send,
        original: Scope,
        router: ASGIApp,
        lane: Lane | None = None,
        found: Found | None = None,
        refresh: Ticket | None = None,
    ) -> None:
        self._send = send
        self.original = self.live = original
        self.router = router
        self.refresh = refresh
        self.lane = lane
        self.found = found
        self.spent = False
        self.capture: Capture | None = None
        self.note: Pair | None = None
        self.returned: Any = None
        self._head: Message | None = None
        self._entry: Entry | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._started_in = sys.exception()

    def send(self, message: Message) -> Awaitable[None]:
        if self._entry is not None:
            return self._keep(message)
        is_told = self.spent and self.capture is None and self.note is None  # all is in what was found
        if message["type"] == "http.response.start" and not is_told:
            return self._start(message)
        return self._send(message)

    async def _start(self, message: Message) -> None:
        capture, note = self.capture, self.note
        if capture is not None and not capture.ticket.ended:
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            handled = self._handled()
            kept: Kept | str = "an exception was handled"
            if handled is None:
                by_response = isinstance(self.returned, Response)
                kept = keep(message["status"], headers, capture, by_response=by_response)
            if isinstance(kept, Kept):
                self._entry = kept.entry
                self._head = {**message, "headers": kept.fields}
                return
            if isinstance(handled, Exception) and broke_the_answer(handled):
                capture.ticket.fail(handled)
            else:
                await capture.ticket.decline()
            note = cache_status(capture.fwd, f'detail="{kept}"')
        elif note is None and not self.spent and self._is_of_a_cached_route():
            note = cache_status("fwd=bypass", 'detail="answered before the endpoint"')
        if note is not None:
            message = {**message, "headers": [*message.get("headers", ()), note]}
        await self._send(message)

    def _is_of_a_cached_route(self) -> bool:
        cached = getattr(self.live.get("endpoint"), "__prodkit_cached__", None)
        return cached is not None and self.live.get(SLOT) is self and cached.knows(self.live)

    def _handled(self) -> BaseException | None:
        """FastAPI answers an exception while it handles it: whatever the status, nothing to keep."""
        now = sys.exception()
        return None if now is self._started_in else now

    async def _keep(self, message: Message) -> None:
        """Take what belongs to the body, and hand it on."""
        capture = self.capture
        assert capture is not None
        if message["type"] != "http.response.body":  # a file by its path, which leaves us no bytes
            await self._give_up(message["type"])
            await self._send(message)
            return
        body: bytes = bytes(message.get("body", b""))
        self._body.append(body)
        self._size += len(body)
        if self._size > capture.max_bytes:
            await self._give_up("too large")
        elif not message.get("more_body", False):
            message = await self._finish(capture, message)
        else:
            await self._send_head(cache_status(capture.fwd, "stored"))
            await self._send_part(capture.ticket, message)
            return
        await self._send(message)

    async def _send_part(self, ticket: Ticket, message: Message) -> None:
        """A client that does not read must not hold up those who wait for the rest."""
        timer = asyncio.get_running_loop().call_later(_PATIENCE, ticket.abandon)
        try:
            await self._send(message)
        finally:
            timer.cancel()

    async def _finish(self, capture: Capture, message: Message) -> Message:
        """All is there: hand it over and keep it before a slow client is waited for."""
        entry, self._entry = self._entry, None
        assert entry is not None
        entry.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        entry.cost = max(0.0, capture.ticket.now() - capture.ticket.began)
        added = []
        injected = () if entry.returned_response else capture.response.raw_headers
        if value_of((*entry.headers, *injected), b"etag") is None:
            added.append((b"etag", etag_of(entry.body)))
            entry.headers = (*entry.headers, *added)
        is_stored = capture.ticket.stamps is not None
        await capture.ticket.publish(entry, ttl=capture.lifetime(entry))
        if self._head is not None:
            added.append(cache_status(capture.fwd, *(["stored"] if is_stored else [])))
            head = {**self._head, "headers": [*self._head["headers"], *added]}
            if entry.status == 200 and is_unchanged(capture.asked, head["headers"]):
                await self._send({**head, "status": 304, "headers": not_modified(head["headers"])})
                return {**message, "body": b""}
            await self._send(head)
        return message

    async def _send_head(self, note: Pair) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            await self._send({**head, "headers": [*head["headers"], note]})

    async def _give_up(self, reason: str) -> None:
        assert self.capture is not None
        self._entry = None
        self._body.clear()
        await self.capture.ticket.decline()
        await self._send_head(cache_status(self.capture.fwd, f'detail="{reason}"'))


def slot_of(request: Any) -> Slot | None:
    """The slot of the request that an endpoint was called with."""
    scope = getattr(request, "scope", None)  # cheaper than an isinstance of an abstract class
    slot: Slot | None = scope.get(SLOT) if type(scope) is dict else None
    return slot


async def serve(slot: Slot, scope: Scope, receive: Receive) -> None:
    """Have the router answer `scope` through `slot`, and see its ticket closed."""
    around = scope.get(SLOT)  # of an app in which this one is mounted
    scope[SLOT] = slot
    slot.live = scope
    try:
        await slot.router(scope, receive, slot.send)
    except Exception as error:
        if slot.capture is not None:
            slot.capture.ticket.fail(error)
        raise
    finally:
        # or they would hold each other until the garbage collector comes
        slot.live = slot.original
        del scope[SLOT]
        if around is not None:
            scope[SLOT] = around
        if slot.capture is not None:
            await slot.capture.ticket.close()


async def replay(slot: Slot, ticket: Ticket, body: bytes) -> None:
    """Answer the request once more for the cache alone, with its dependencies opened and closed again."""
    scope = {name: dict(value) if isinstance(value, dict) else value for name, value in slot.original.items()}
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError("nobody disconnects")

    async def send(message: Message) -> None:
        return None

    again = Slot(send, scope, around_router(slot.router), refresh=ticket)
    await serve(again, dict(scope), receive)
