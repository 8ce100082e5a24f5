"""A test client that the app takes for a server."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

__all__ = ["as_a_server"]


def as_a_server(app: FastAPI) -> TestClient:
    """What nobody foresaw is not raised into the test: the scopes look like those of a server."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            extensions: dict[str, object] = {
                name: {} for name in scope["extensions"] if name != "http.response.debug"
            }
            scope = {**scope, "asgi": {"version": "3.0"}, "extensions": extensions}
        await app(scope, receive, send)

    return TestClient(served)
