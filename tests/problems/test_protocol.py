"""Whatever an app sends before it fails, a server sees a well-formed exchange and no exception."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_prodkit import ProblemMiddleware, problem


@problem(status=410)
class GoneError(Exception):
    pass


async def _forward(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class Raising:
    """A user's middleware that fails before or after what is inside."""

    def __init__(self, app: ASGIApp, error: Exception, first: bool) -> None:
        self.app, self.error, self.first = app, error, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.first:
            raise self.error
        await self.app(scope, receive, send)
        raise self.error


ERRORS = st.sampled_from(
    [
        ValueError("secret"),
        HTTPException(404),
        GoneError(),
        ExceptionGroup("", [GoneError(), OSError()]),
        RuntimeError(),
    ]
)
MEDIA = st.sampled_from([b"text/csv", b"text/event-stream", b"application/x-ndjson", b"application/json"])
CHUNKS = st.lists(st.sampled_from([b"", b"data: 1\n\n", b'{"a":1}\n', b"half"]), max_size=3)
MIDDLEWARES = st.lists(
    st.sampled_from(
        [
            (BaseHTTPMiddleware, {"dispatch": _forward}),
            (GZipMiddleware, {"minimum_size": 1}),
            (Raising, {"error": ValueError("secret"), "first": True}),
            (Raising, {"error": HTTPException(403), "first": False}),
        ]
    ),
    max_size=3,
)


def _app(error: Exception, media: bytes, chunks: list[bytes] | None, ends: bool, between: Any) -> FastAPI:
    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        if chunks is not None:
            headers = [(b"content-type", media)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if ends:
                await send({"type": "http.response.body", "body": b""})
        raise error

    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    for middleware, options in between:
        app.add_middleware(middleware, **options)
    app.router.routes.append(_route(endpoint))
    return app


def _route(endpoint: ASGIApp) -> Any:
    from starlette.routing import Route

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await endpoint(scope, receive, send)

    return Route("/", Endpoint())


async def _ask(app: FastAPI) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "GET",
        "path": "/",
        "headers": [(b"accept-encoding", b"gzip")],
        "query_string": b"",
    }
    await app(scope, receive, send)
    return sent


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(error=ERRORS, media=MEDIA, chunks=st.none() | CHUNKS, ends=st.booleans(), between=MIDDLEWARES)
async def test_a_server_sees_one_start_and_at_most_one_end(
    caplog: pytest.LogCaptureFixture, error: Any, media: Any, chunks: Any, ends: Any, between: Any
) -> None:
    caplog.clear()
    sent = await _ask(_app(error, media, chunks, ends, between))
    kinds = [message["type"] for message in sent]
    assert kinds[0] == "http.response.start"
    assert kinds[1:] == ["http.response.body"] * (len(kinds) - 1)
    finals = [not message.get("more_body", False) for message in sent[1:]]
    assert True not in finals[:-1], "something was sent after the end"
    assert b"secret" not in b"".join(message.get("body", b"") for message in sent[1:])
    per_error: dict[int, int] = {}
    for record in caplog.records:
        if record.levelno >= logging.ERROR and record.exc_info:
            per_error[id(record.exc_info[1])] = per_error.get(id(record.exc_info[1]), 0) + 1
    assert set(per_error.values()) <= {1}, "an exception was logged twice"
    complete = bool(finals) and finals[-1]
    if not complete:
        assert per_error, "a body was cut and nobody was told"
