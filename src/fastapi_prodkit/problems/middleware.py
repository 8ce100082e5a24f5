"""`ProblemMiddleware`: it puts the layers and the handlers in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .._asgi import Place, layers, lifespan_checked, lift, sink
from .._fastapi import RouteTable, app_of, check_routes, default_handlers, mounted_apps
from ..errors import ConfigurationError, ProblemError
from .answers import Answers
from .desk import Desk, Hook
from .language import Texts, Translations
from .layers import Inside, answer_http, answer_socket
from .progress import FAILURES, Failures, Response, Socket
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
        if max_errors < 1:
            raise ConfigurationError(f"max_errors={max_errors!r} must be at least 1")
        hooks = (on_error,) if callable(on_error) else tuple(on_error)
        if not all(callable(hook) for hook in hooks):
            raise ConfigurationError("on_error must be functions that take the exception")
        self.problems = problems if problems is not None else Problems()
        self._desk = Desk(
            Answers(self.problems, max_errors=max_errors, validator_text=validator_text),
            translations=Translations(translations or {}),
            page=html,
            on_error=hooks,
            exception_text=exception_text,
        )
        self._inside = Inside(app, self._desk)
        self._owner: Any = None
        self.app = sink(app, self._inside)
        self._idle = any(isinstance(node, ProblemMiddleware) for node in layers(app))
        if not self._idle:
            lift(app_of(app), self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._owner is None:
            self._install(scope["app"])
        kind = scope["type"]
        if self._idle or kind not in ("http", "websocket", "lifespan"):
            await self.app(scope, receive, send)
        elif kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "websocket":
            await self._serve_socket(scope, receive, send)
        else:
            await lifespan_checked(self.app, scope, receive, send, check_routes)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        failures = scope[FAILURES] = Failures()
        response = Response(send, failures)
        try:
            await self.app(scope, receive, response)
        except Exception as exc:
            if not failures.aborted:
                try:
                    await answer_http(self._desk, self._owner, exc, scope, receive, response)
                except Exception:
                    if not failures.aborted:
                        raise
        if failures.errors and "http.response.debug" in scope.get("extensions", ()):
            raise failures.errors[0]  # Starlette's test client, which offers it, shows tests what broke

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        failures = scope[FAILURES] = Failures()
        socket = Socket(receive, send)
        try:
            await self.app(scope, socket.receive, socket.send)
        except Exception as exc:
            await answer_socket(self._desk, self._owner, exc, scope, socket)
        if failures.errors and "asgi" not in scope:
            raise failures.errors[0]  # only the test client leaves that key out

    def _install(self, app: Any) -> None:
        """At the first scope: the whole stack stands by now."""
        self._owner = app
        if self._idle:
            return
        self._desk.routes = RouteTable(app)
        self._furnish(app, self._inside)
        for mounted in mounted_apps(app):
            if mounted.middleware_stack is None:
                mounted.middleware_stack = mounted.build_middleware_stack()
            inside = Inside(mounted, self._desk)
            sink(mounted.middleware_stack, inside)
            self._furnish(mounted, inside)

    def _furnish(self, app: Any, inside: Inside) -> None:
        """Let our handler answer what FastAPI's defaults would, and what nobody else does."""
        inside.owner = app
        stack = layers(app.middleware_stack)
        exceptions = next(node for node in stack if isinstance(node, ExceptionMiddleware))
        for cls, default in default_handlers().items():
            if app.exception_handlers.get(cls, default) is default:
                exceptions.add_exception_handler(cls, self._desk.handle)
        if ProblemError not in app.exception_handlers:
            exceptions.add_exception_handler(ProblemError, self._desk.handle)
