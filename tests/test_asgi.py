"""Where a layer stands, whatever the order of the lines that install it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import ConfigurationError
from fastapi_prodkit._asgi import Place, layers, lifespan_checked, lift, sink
from fastapi_prodkit._fastapi import app_of

# --- the layers of a package such as ours ---


class Stander:
    """Notes that it was passed, and forwards."""

    place = Place.ROUTER

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("passed", []).append(self)
        await self.app(scope, receive, send)


class InnerErrors(Stander):
    place = Place.ERRORS_INSIDE


class InnerLimits(Stander):
    place = Place.LIMITS


class InnerCache(Stander):
    place = Place.CACHE


class Logging(Stander):
    place = Place.LOGGING

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        lift(app_of(app), self)


class Errors(Stander):
    """Stands outside itself, and has a layer inside."""

    place = Place.ERRORS_OUTSIDE

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(sink(app, InnerErrors(app)))
        lift(app_of(app), self)


class Doorway:
    """Has its layer inside; nothing of it is left where it was installed."""

    inner: type[Stander]

    def __init__(self, app: ASGIApp) -> None:
        self.app = sink(app, self.inner(app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Limits(Doorway):
    inner = InnerLimits


class Cache(Doorway):
    inner = InnerCache


# --- a user's middlewares ---


class Header(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-user"] = "here"
        return response


class Refusal:
    """Answers before anything inside is called."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("no", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Hiding:
    def __init__(self, app: ASGIApp) -> None:
        self.secret = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.secret(scope, receive, send)


STACK = ["Logging", "Errors", "Header", "InnerLimits", "InnerErrors", "ExceptionMiddleware", "InnerCache"]


def _app(*middlewares: Any) -> FastAPI:
    app = FastAPI()
    for each in middlewares:
        app.add_middleware(each)

    @app.get("/")
    async def index() -> str:
        return "hello"

    return app


def _stack(app: FastAPI) -> list[str]:
    TestClient(app).get("/")
    assert app.middleware_stack is not None
    ours = (Stander, Header, Refusal, CORSMiddleware, GZipMiddleware, ExceptionMiddleware)
    return [type(node).__name__ for node in layers(app.middleware_stack) if isinstance(node, ours)]


@pytest.mark.parametrize("lines", list(permutations([Logging, Errors, Limits, Cache, Header])))
def test_any_order_of_lines_gives_the_same_stack(lines: Any) -> None:
    assert _stack(_app(*lines)) == STACK


def test_the_middlewares_of_the_user_keep_their_order() -> None:
    stack = _stack(_app(CORSMiddleware, Logging, GZipMiddleware, Errors, Header, Limits))
    user = ["Header", "GZipMiddleware", "CORSMiddleware"]
    assert stack == ["Logging", "Errors", *user, "InnerLimits", "InnerErrors", "ExceptionMiddleware"]


def test_a_layer_installed_twice_inside_is_there_once() -> None:
    assert _stack(_app(Limits, Header, Limits)) == ["Header", "InnerLimits", "ExceptionMiddleware"]


def test_an_outer_layer_installed_twice_stays_outside() -> None:
    stack = _stack(_app(Logging, Header, Logging))
    assert stack == ["Logging", "Logging", "Header", "ExceptionMiddleware"]


def test_the_first_request_passes_every_layer_once_even_without_a_lifespan() -> None:
    app = _app(Limits, Logging, Cache, Errors, Header)
    passed: list[Any] = []

    @app.get("/passed")
    async def look() -> None: ...

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        scope["passed"] = passed
        await app(scope, receive, send)

    TestClient(recording).get("/passed")
    names = [type(each).__name__ for each in passed]
    assert names == ["Logging", "Errors", "InnerLimits", "InnerErrors", "InnerCache"]


def test_an_outer_layer_sees_a_request_that_a_user_s_middleware_refuses_at_once() -> None:
    app = _app(Logging, Refusal)
    passed: list[Any] = []

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        scope["passed"] = passed
        await app(scope, receive, send)

    assert TestClient(recording).get("/").status_code == 403
    assert [type(each).__name__ for each in passed] == ["Logging"]


@pytest.mark.parametrize("lines", list(permutations([Logging, Errors, Header])))
def test_the_list_of_the_user_s_middleware_is_left_as_it_was(lines: Any) -> None:
    app = _app(*lines)
    _stack(app)
    left: list[Any] = [entry.cls for entry in app.user_middleware]
    assert left == list(reversed(lines))


def test_a_stack_that_is_built_again_is_the_same() -> None:
    app = _app(Logging, Header, Errors, Limits)
    first = _stack(app)
    app.middleware_stack = None
    assert _stack(app) == first == ["Logging", "Errors", "Header", *STACK[3:6]]


@pytest.mark.parametrize("ours", [Errors, Limits, Cache])
def test_a_middleware_that_hides_what_it_wraps_is_named(ours: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Middleware cannot find its place: Hiding does not keep"):
        TestClient(_app(Hiding, ours)).get("/")


@pytest.mark.parametrize("ours", [Errors, Logging])
def test_a_middleware_outside_that_hides_what_it_wraps_is_named(ours: Any) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"cannot find its place: Hiding does not keep the app"),
        TestClient(_app(ours, Hiding)),
    ):
        pytest.fail("it started")


# --- checks at start-up ---


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
