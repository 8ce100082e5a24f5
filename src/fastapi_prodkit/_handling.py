"""How FastAPI and Starlette handle errors, as far as they keep it private."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from traceback import walk_tb
from typing import Any

from fastapi import exception_handlers
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.exceptions import HTTPException
from starlette.types import Scope

from ._fastapi import private

__all__ = ["broke_the_answer", "default_handlers", "is_signal", "let_413_pass", "report_to_telemetry"]

_SIGNALS = tuple(filter(None, [private("starlette.middleware.body_limit", "_RequestBodyLimitResponseSent")]))
_report = private("fastapi.telemetry._asgi", "_exception")


def default_handlers() -> dict[type[Exception], Callable[..., Any]]:
    """The exception handlers that an app has unless its owner registered others."""
    return {
        HTTPException: exception_handlers.http_exception_handler,
        RequestValidationError: exception_handlers.request_validation_exception_handler,
        WebSocketRequestValidationError: exception_handlers.websocket_request_validation_exception_handler,
    }


def is_signal(exc: BaseException) -> bool:
    """Whether the exception only tells a layer of the framework further out that it has already answered."""
    return isinstance(exc, _SIGNALS)


def broke_the_answer(error: BaseException) -> bool:
    """Whether the router is handling an exception of what it made of an endpoint's value.

    The other ones are raised where dependencies are closed, or handled by somebody else.
    """
    names = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
    return names[:1] == [wrap_app_handling_exceptions.__module__] and contextlib.__name__ not in names


def let_413_pass(scope: Scope) -> None:
    """Keep Starlette's body limit from putting its own text in the place of the 413 that we answer."""
    responder = scope.get("starlette._body_limit_responder")
    if responder is not None:
        responder.content_length = None  # what is read is counted all the same


def report_to_telemetry(scope: Scope, exc: BaseException) -> None:
    """Show FastAPI's own OpenTelemetry an exception that was answered inside, where it is not looking."""
    if _report is not None and "fastapi.telemetry" in scope:
        _report(scope=scope, exc=exc)
