"""Where every exception arrives: it is logged once, and answered once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from traceback import walk_tb
from typing import Any

from fastapi import HTTPException as FastAPIHTTPException
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope

from .._asgi import failures_of
from .._handling import let_413_pass, report_to_telemetry
from .._routes import RouteTable
from .._traceback import traceback_text
from .answers import Answer, Answers
from .language import Texts, Translations
from .rendering import HTML, JSON, Page, ProblemResponse, encode, wants_html

__all__ = ["Desk", "Hook"]

Hook = Callable[[BaseException], object]

_PLAIN = frozenset({HTTPException, FastAPIHTTPException})
_MOST_BODIES = 256

logger = logging.getLogger("fastapi_prodkit.problems")


class Desk:
    """Answers exceptions and reports those that nobody foresaw."""

    def __init__(
        self,
        answers: Answers,
        *,
        translations: Translations,
        page: Page | None,
        on_error: Sequence[Hook],
        exception_text: bool,
    ) -> None:
        self._answers = answers
        self._translations = translations
        self._page = page
        self._hooks = on_error
        self._exception_text = exception_text
        varies = [name for name, used in [("Accept", page), ("Accept-Language", translations)] if used]
        self._vary = [(b"vary", ", ".join(varies).encode())] if varies else []
        self._bodies: dict[tuple[int, str], bytes] = {}
        self.routes: RouteTable | None = None

    async def handle(self, connection: HTTPConnection, exc: Exception) -> Response:
        """The exception handler for what FastAPI itself answers by default."""
        scope = connection.scope
        if scope["type"] == "websocket":
            raise exc  # only the layer outside knows whether the socket was accepted
        key = self._constant(exc)
        if key is None or (self._page is not None and wants_html(_header(scope, b"accept"))):
            return self.render(self.answer(exc, scope), scope)
        body = self._bodies.get(key)
        if body is None:
            if len(self._bodies) >= _MOST_BODIES:
                self._bodies.clear()
            body = self._bodies[key] = encode(self.answer(exc, scope).document)
        return ProblemResponse(key[0], body, JSON, {}, self._vary)

    def _constant(self, exc: Exception) -> tuple[int, str] | None:
        """What an `HTTPException` without header fields always says: its document is encoded once."""
        kind = type(exc)
        if kind not in _PLAIN or self._translations or self._answers.problems.find(kind) is not None:
            return None
        assert isinstance(exc, HTTPException)
        status, detail = exc.status_code, exc.detail
        if exc.headers or status < 400 or status == 413 or type(detail) is not str:
            return None
        return (status, detail) if len(detail) <= 200 else None

    def answer(self, exc: BaseException, scope: Scope, *, app: Any = None) -> Answer:
        """What to tell the client; it is not logged yet."""
        _, texts = self._language(scope)
        debug = bool(app is not None and app.debug)
        try:
            return self._answers.of(exc, texts=texts, debug=debug)
        except Exception as broken:  # a `detail`, `headers` or member of a declaration
            self.report(broken, scope, where="in the declaration of a problem of", app=app)
            return self._answers.unforeseen(exc, texts=texts, debug=debug)

    async def respond(self, exc: BaseException, answer: Answer, scope: Scope, app: Any) -> Response:
        """The response to it; an `Exception` handler of the user's own is asked first."""
        handler = None if answer.foreseen or app is None else _own_handler(app)
        if handler is None:
            return self.render(answer, scope)
        try:
            request = Request(scope)
            if is_async_callable(handler):
                response: Response = await handler(request, exc)
            else:
                response = await run_in_threadpool(handler, request, exc)
        except Exception as broken:
            self.report(broken, scope, where="in the handler of exceptions of", app=app)
            return self.render(answer, scope)
        return response

    def render(self, answer: Answer, scope: Scope) -> Response:
        """The document, as JSON or as a page, in the language that was negotiated."""
        if answer.status == 413:
            let_413_pass(scope)
        more = self._vary
        if self._translations:
            tag, texts = self._language(scope)
            if texts is not None:
                more = [*more, (b"content-language", tag.encode("latin-1"))]
        document, media_type, body = answer.document, JSON, None
        if answer.status < 400:  # somebody raised a redirect: that is no problem
            document, media_type = {"detail": document.get("detail", document["title"])}, b"application/json"
        elif self._page is not None and wants_html(_header(scope, b"accept")):
            try:
                body, media_type = self._page(document).encode("utf-8", "replace"), HTML
            except Exception as broken:
                self.report(broken, scope, where="in the page of a problem of")
        return ProblemResponse(
            answer.status, body if body is not None else encode(document), media_type, answer.headers, more
        )

    def report(
        self, exc: BaseException, scope: Scope, *, where: str, app: Any = None, unforeseen: bool = True
    ) -> None:
        """Log it once, with its traceback, and give it to the hooks once."""
        failures = failures_of(scope)
        if exc in failures:
            return
        failures.errors.append(exc)
        if unforeseen and failures.unforeseen is None:
            failures.unforeseen = exc
        texts = self._exception_text or bool(app is not None and app.debug)
        _log(f"{type(exc).__name__} {where} {self._name(scope)}", exc, traceback_text(exc, texts=texts))
        report_to_telemetry(scope, exc)
        for hook in self._hooks:
            try:
                hook(exc)
            except Exception:
                logger.exception("on_error hook %r failed", hook)

    def _name(self, scope: Scope) -> str:
        """The method and the route's template: a path may hold a secret."""
        template = self.routes.template(scope) if self.routes is not None else None
        return f"{scope.get('method', 'WebSocket')} {template or 'no route'}"

    def _language(self, scope: Scope) -> tuple[str, Texts | None]:
        if not self._translations:
            return "en", None
        return self._translations.negotiate(_header(scope, b"accept-language")) or ("en", None)


def _own_handler(app: Any) -> Any:
    return app.exception_handlers.get(500) or app.exception_handlers.get(Exception)


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


def _log(message: str, exc: BaseException, text: str) -> None:
    """The record carries the exception for hooks of `logging`, and its text as it may be written down."""
    if logger.isEnabledFor(logging.ERROR):
        file, line, function = _origin(exc)
        info = (type(exc), exc, exc.__traceback__)
        record = logger.makeRecord(logger.name, logging.ERROR, file, line, message, (), info, function)
        record.exc_text = text
        logger.handle(record)


def _origin(exc: BaseException) -> tuple[str, int, str]:
    """Where it was raised: a record says so of itself as if it had been logged there."""
    for frame, line in deque(walk_tb(exc.__traceback__), maxlen=1):
        return frame.f_code.co_filename, line, frame.f_code.co_name
    return __file__, 0, "report"
