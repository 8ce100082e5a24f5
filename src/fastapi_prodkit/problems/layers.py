"""The two layers: inside the user's middlewares, where errors are answered, and outside of them."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .._asgi import Place
from .._fastapi import is_signal
from .desk import Desk
from .progress import Response, Socket, failures_of
from .streams import last_words

__all__ = ["Inside", "answer_http", "answer_socket"]


class Inside:
    """Answers what the app raises, as a normal response that the user's middlewares see."""

    place = Place.ERRORS_INSIDE

    def __init__(self, app: ASGIApp, desk: Desk, owner: Any = None) -> None:
        self.app = app
        self.desk = desk
        self.owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            failures = failures_of(scope)
            response = Response(send, failures)
            try:
                await self.app(scope, receive, response)
            except Exception as exc:
                await answer_http(self.desk, self.owner, _cause(exc), scope, receive, response)
        elif scope["type"] == "websocket":
            socket = Socket(receive, send)
            try:
                await self.app(scope, socket.receive, socket.send)
            except Exception as exc:
                await answer_socket(self.desk, self.owner, exc, scope, socket)
        else:
            await self.app(scope, receive, send)


async def answer_http(
    desk: Desk, owner: Any, exc: Exception, scope: Scope, receive: Receive, response: Response
) -> None:
    """Answer an exception in a request, as far as the response has not been sent.

    :raises Exception: `exc` again, if the body is to be aborted: the middlewares outside learn of it.
    """
    failures = failures_of(scope)
    if is_signal(exc) or exc in failures:
        raise exc
    if isinstance(exc, ClientDisconnect):
        return  # nobody is there to be answered, and nothing of ours is broken
    answer = desk.answer(exc, scope, app=owner)
    if response.start is None:
        if answer.reported:
            desk.report(exc, scope, where="in", app=owner)
        await (await desk.respond(exc, answer, scope, owner))(scope, receive, response)
        return
    if response.complete:
        desk.report(exc, scope, where="after the response to", app=owner)
        return
    words = last_words(response, answer)
    if answer.reported or words is None:
        desk.report(exc, scope, where="in the middle of the response to", app=owner)
    if words is None:
        failures.aborted = True
        raise exc
    await response({"type": "http.response.body", "body": words, "more_body": False})


async def answer_socket(desk: Desk, owner: Any, exc: Exception, scope: Scope, socket: Socket) -> None:
    """Refuse or close a WebSocket: a client never sees a bare 1006."""
    if exc in failures_of(scope):
        raise exc
    if isinstance(exc, WebSocketDisconnect):
        return
    answer = desk.answer(exc, scope, app=owner)
    if answer.reported or socket.closed:
        desk.report(exc, scope, where="in", app=owner)
    if socket.closed:
        return
    if not socket.accepted and "websocket.http.response" in scope.get("extensions", {}):
        await desk.render(answer, scope)(scope, socket.receive, socket.send)
        return
    document = answer.document
    await socket.close(answer.close_code, str(document.get("detail") or document["title"]))


def _cause(exc: Exception) -> Exception:
    """Starlette wraps what a handler exists for but comes too late for."""
    late = isinstance(exc, RuntimeError) and str(exc).startswith("Caught handled exception")
    return exc.__cause__ if late and isinstance(exc.__cause__, Exception) else exc
