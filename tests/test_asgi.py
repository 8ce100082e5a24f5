from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import ConfigurationError
from fastapi_prodkit._asgi import lifespan_checked


class Counted:
    """A check that counts its runs and, given an error, objects."""

    def __init__(self, error: Exception | None = None) -> None:
        self.apps: list[Any] = []
        self.error = error

    def __call__(self, app: Any) -> None:
        self.apps.append(app)
        if self.error is not None:
            raise self.error


class Checking:
    def __init__(self, app: ASGIApp, check: Counted) -> None:
        self.app = app
        self.check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_checked(self.app, scope, receive, send, self.check)
        else:
            await self.app(scope, receive, send)


def _app_checked_by(*checks: Counted) -> FastAPI:
    app = FastAPI()
    for check in checks:
        app.add_middleware(Checking, check=check)
    return app


def test_a_check_runs_once_however_many_middlewares_ask_for_it() -> None:
    check, other = Counted(), Counted()
    app = _app_checked_by(check, other, check)
    with TestClient(app) as client:
        assert client.get("/").status_code == 404
    assert (check.apps, other.apps) == ([app], [app])


def test_a_check_that_objects_stops_the_start() -> None:
    app = _app_checked_by(Counted(ConfigurationError("this cannot work")))
    with pytest.raises(ConfigurationError, match="this cannot work"), TestClient(app):
        pytest.fail("it started")


async def test_a_check_that_objects_tells_the_server_why() -> None:
    app = _app_checked_by(Counted(ConfigurationError("this cannot work")))
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with pytest.raises(ConfigurationError):
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert told == [{"type": "lifespan.startup.failed", "message": "this cannot work"}]
