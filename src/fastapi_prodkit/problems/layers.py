"""The layers that catch: inside the user's middlewares, and around each of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .._asgi import TELLS_ERRORS, Place, failures_of, leaves
from .._handling import is_signal
from .desk import Desk
from .progress import Response, Socket
from .streams import last_words

__all__ = ["Catcher", "Guard", "is_departure"]

_NORMAL = (1000, 1001)  # what no title of an error describes


class Guard:
    """Answers what the layers inside raise, as a normal response that those outside see."""

    def __init__(self, app: ASGIApp, desk: Desk, owner: Any = None) -> None:
        self.app = app
        self.desk = desk
        self.owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = self.response(scope, send)
            try:
                await self.app(scope, receive, response)
            except Exception as exc:
                if not await self.answer(exc, scope, receive, response):
                    raise
        elif scope["type"] == "websocket":
            socket = self.socket(scope, receive, send)
            try:
                await self.app(scope, socket.receive, socket.send)
            except Exception as exc:
                await self.refuse(exc, scope, socket)
        else:
            await self.app(scope, receive, send)

    def response(self, scope: Scope, send: Send) -> Response:
        return Response(send, failures_of(scope))

    async def answer(self, exc: Exception, scope: Scope, receive: Receive, response: Response) -> bool:
        """Answer an exception of a request, as far as its response has not been sent.

        `False` if the exception is to go on: because it is none of ours, because nobody is there to be
        answered, or because the body is to be aborted, and the middlewares outside have to learn of it.
        """
        if is_signal(exc) or is_departure(exc, scope):
            return False
        exc = _cause(exc)
        desk, owner, failures = self.desk, self.owner, failures_of(scope)
        answer = desk.answer(exc, scope, app=owner)
        if not response.started:
            if answer.reported:
                desk.report(exc, scope, where="in", app=owner, unforeseen=not answer.foreseen)
            failures.aborted = False  # what was to be aborted inside has not left a middleware's buffer
            await (await desk.respond(exc, answer, scope, owner))(scope, receive, response)
            return True
        if response.complete:
            desk.report(exc, scope, where="after the response to", app=owner)
            return True
        words = last_words(response, answer)
        if answer.reported or words is None:
            unforeseen = words is None or not answer.foreseen
            where = "in the middle of the response to"
            desk.report(exc, scope, where=where, app=owner, unforeseen=unforeseen)
        if words is None:
            failures.aborted = True
            return False
        await response({"type": "http.response.body", "body": words, "more_body": False})
        return True

    def socket(self, scope: Scope, receive: Receive, send: Send) -> Socket:
        """Both ends, watched, where a refusal is a whole response if the server can send one."""

        async def deny(socket: Socket, exc: WebSocketException) -> None:
            answer = self.desk.answer(self.refusal(exc, scope), scope, app=self.owner)
            await self.desk.render(answer, scope)(scope, socket.receive, socket.send)

        able = "websocket.http.response" in (scope.get("extensions") or ())
        return Socket(receive, send, deny if able else None)

    def refusal(self, exc: WebSocketException, scope: Scope) -> Exception:
        """What a close before accept means."""
        return exc

    async def refuse(self, exc: Exception, scope: Scope, socket: Socket) -> None:
        """Refuse a WebSocket, or close it: its client never sees a bare 1006."""
        if is_departure(exc, scope):
            return
        answer = self.desk.answer(exc, scope, app=self.owner)
        if answer.reported or socket.closed:
            unforeseen = socket.closed or not answer.foreseen
            self.desk.report(exc, scope, where="in", app=self.owner, unforeseen=unforeseen)
        with suppress(OSError):  # the client left a moment ago
            if socket.deniable:
                await self.desk.render(answer, scope)(scope, socket.receive, socket.send)
            elif not socket.closed:
                title = "" if answer.close_code in _NORMAL else answer.document["title"]
                await socket.close(answer.close_code, str(answer.document.get("detail") or title))


class Catcher(Guard):
    """The guard that stands inside the user's middlewares."""

    place = Place.ERRORS_INSIDE

    def response(self, scope: Scope, send: Send) -> Response:
        scope[TELLS_ERRORS] = True
        return Response(send)

    def refusal(self, exc: WebSocketException, scope: Scope) -> Exception:
        """A router that knows no endpoint just closes."""
        unmatched = exc.code == 1000 and "endpoint" not in scope
        return HTTPException(404) if unmatched else exc


def is_departure(exc: Exception, scope: Scope) -> bool:
    """Whether it only says that the client left, to one task or to several of a group."""
    departure = failures_of(scope).departure
    return all(
        each is departure or isinstance(each, ClientDisconnect | WebSocketDisconnect) for each in leaves(exc)
    )


def _cause(exc: Exception) -> Exception:
    """Starlette wraps what a handler exists for but comes too late for."""
    late = isinstance(exc, RuntimeError) and str(exc).startswith("Caught handled exception")
    return exc.__cause__ if late and isinstance(exc.__cause__, Exception) else exc
