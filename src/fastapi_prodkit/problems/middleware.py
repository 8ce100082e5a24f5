"""`ProblemMiddleware`: it puts the layers and the handlers in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import iscoroutinefunction
from itertools import takewhile
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .._arguments import count, function, functions, instance
from .._asgi import (
    FAILURES,
    Failures,
    Place,
    failures_of,
    layers,
    lifespan_checked,
    lift,
    place_of,
    send_raises,
    sink,
)
from .._fastapi import app_of, mounted_apps
from .._handling import default_handlers
from .._routes import RouteTable
from .._startup import check_routes
from ..errors import ConfigurationError, ProblemError
from .answers import Answers
from .desk import Desk, Hook
from .language import Texts, Translations
from .layers import Catcher, Guard, is_departure
from .openapi import document_problems
from .progress import Response, departures_told
from .registry import Problems
from .rendering import Page, html_page

__all__ = ["ProblemMiddleware"]


class ProblemMiddleware:
    """Every error becomes an RFC 9457 problem document, and every unforeseen one is logged once.

    Install it with `app.add_middleware(ProblemMiddleware)`, on any line. Handlers that you registered for
    an exception class or a status keep their say; only FastAPI's defaults are replaced.

    :param problems: your registry of exceptions; without one, declared exceptions are still answered.
    :param on_error: functions of the exception, called once for each unforeseen one, such as
        `sentry_sdk.capture_exception`.
    :param html: draws a document for a client that asks for HTML and not for JSON; `None` for JSON always.
    :param translations: for each language, texts by problem type, English title or validation code.
    :param max_errors: how many validation errors a 422 lists.
    :param validator_text: pass on what your own validators say; it may repeat the input.
    :param exception_text: write the texts of unforeseen exceptions to the log, not their types alone;
        they may hold secrets. In debug mode they are always written.
    :raises ConfigurationError: for an argument that cannot work.
    """

    place = Place.ERRORS_OUTSIDE

    def __init__(
        self,
        app: ASGIApp,
        *,
        problems: Problems | None = None,
        on_error: Hook | Sequence[Hook] = (),
        html: Page | None = html_page,
        translations: Mapping[str, Texts] | None = None,
        max_errors: int = 20,
        validator_text: bool = False,
        exception_text: bool = False,
    ) -> None:
        count("max_errors", max_errors)
        hooks = functions("on_error", (on_error,) if callable(on_error) else on_error)
        if any(iscoroutinefunction(hook) for hook in hooks):
            raise ConfigurationError("on_error=: give plain functions; what they start they may not await")
        if html is not None:
            function("html", html)
        if problems is not None:
            instance("problems", problems, Problems, "make one with Problems()")
        self.problems = problems if problems is not None else Problems()
        self._desk = Desk(
            Answers(self.problems, max_errors=max_errors, validator_text=validator_text),
            translations=Translations({} if translations is None else translations),
            page=html,
            on_error=hooks,
            exception_text=exception_text,
        )
        self._catcher = Catcher(app, self._desk)
        self._guard = Guard(app, self._desk)
        self._installed = self._guards = False
        self._idle = any(isinstance(node, ProblemMiddleware) for node in layers(app))
        self.app = app if self._idle else sink(app, self._catcher)
        if not self._idle:
            lift(app_of(app), self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._installed or self._idle:
            await self._serve_other(scope, receive, send)
            return
        if send_raises(scope):
            send = departures_told(send, failures_of(scope))
        response = None
        if self._guards:  # else no middleware stands between that could raise
            response = send = Response(send, failures_of(scope))
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            settled = response is not None and await self._guard.answer(exc, scope, receive, response)
            if not settled and not failures_of(scope).aborted and not is_departure(exc, scope):
                raise
        if FAILURES in scope:
            _show_tests(scope, failures_of(scope))

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._installed:
            if "app" not in scope:
                raise ConfigurationError(
                    "ProblemMiddleware stands around an app: use app.add_middleware(ProblemMiddleware)"
                )
            self._install(scope["app"])
            await self(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan_checked(self.app, scope, receive, send, check_routes)
        elif scope["type"] == "websocket" and not self._idle:
            await self._serve_socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        failures_of(scope)
        socket = self._guard.socket(scope, receive, send)
        try:
            await self.app(scope, socket.receive, socket.send)
        except Exception as exc:
            await self._guard.refuse(exc, scope, socket)
        _show_tests(scope, failures_of(scope))

    def _guard_each(self) -> None:
        """Guard each of the user's middlewares: the outermost here, each other one where it stands."""
        outer: Any = self
        for node in takewhile(lambda node: place_of(node) in (None, Place.DOORWAY), layers(self.app)):
            if place_of(node) is None:
                if self._guards:
                    outer.app = Guard(node, self._desk)
                self._guards = True
            outer = node

    def _install(self, app: Any) -> None:
        """At the first scope: the whole stack stands by now."""
        self._installed = True
        if self._idle:
            return
        self._desk.routes = RouteTable(app)
        self._furnish(app, self._catcher)
        document_problems(app, problems=self.problems)
        self._guard.owner = app
        self._guard_each()
        for node in layers(app.middleware_stack):
            if isinstance(node, Guard):
                node.owner = app
        for mounted in mounted_apps(app):
            if mounted.middleware_stack is None:
                mounted.middleware_stack = mounted.build_middleware_stack()
            if any(isinstance(node, Catcher) for node in layers(mounted.middleware_stack)):
                continue  # it answers for itself
            catcher = Catcher(mounted, self._desk)
            sink(mounted.middleware_stack, catcher)
            self._furnish(mounted, catcher)
            if hasattr(mounted, "openapi"):
                document_problems(mounted, problems=self.problems)

    def _furnish(self, app: Any, catcher: Catcher) -> None:
        """Let our handler answer what FastAPI's defaults would, and what nobody else does."""
        catcher.owner = app
        stack = layers(app.middleware_stack)
        exceptions = next(node for node in stack if isinstance(node, ExceptionMiddleware))
        for cls, default in default_handlers().items():
            if app.exception_handlers.get(cls, default) is default:
                exceptions.add_exception_handler(cls, self._desk.handle)
        for cls in (ProblemError, WebSocketException):
            if cls not in app.exception_handlers:
                exceptions.add_exception_handler(cls, self._desk.handle)


def _show_tests(scope: Scope, failures: Failures) -> None:
    """Raise what nobody foresaw where only a test can see it: servers got their answer."""
    if scope["type"] == "http":
        test = "http.response.debug" in (scope.get("extensions") or ())
    else:
        test = "asgi" not in scope
    if test and failures.unforeseen is not None:
        raise failures.unforeseen
