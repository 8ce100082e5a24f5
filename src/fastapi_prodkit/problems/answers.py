"""What a client is told about an exception."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import responses
from typing import Any

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException, WebSocketException

from .._asgi import leaves
from ..errors import ProblemError, phrase
from .language import Texts, filled
from .registry import Problem, Problems, close_code_of
from .validation import MAPPING, field_errors

__all__ = ["Answer", "Answers"]

_RESERVED = frozenset({"type", "title", "status", "instance"})


@dataclass(slots=True)
class Answer:
    """A status, a problem document and header fields."""

    status: int
    document: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    close_code: int = 1011
    foreseen: bool = True
    """Somebody raised it to be answered."""
    reported: bool = False
    """It is logged with its traceback and given to the hooks."""


class Answers:
    """Turns exceptions into answers."""

    def __init__(self, problems: Problems, *, max_errors: int, validator_text: bool) -> None:
        self.problems = problems
        self._max_errors = max_errors
        self._validator_text = validator_text

    def of(self, exc: BaseException, *, texts: Texts | None = None, debug: bool = False) -> Answer:
        """The answer to an exception; a group is answered as its most severe member.

        A group whose members differ is reported too: the client learns of one of them only.
        """
        if not isinstance(exc, BaseExceptionGroup):
            return self._of_one(exc, texts, debug)
        answers = [self._of_one(leaf, texts, debug) for leaf in leaves(exc)]
        worst = max(answers, key=lambda answer: (not answer.foreseen, answer.status))
        worst.reported |= any(answer.document["type"] != worst.document["type"] for answer in answers)
        worst.reported |= any(answer.status != worst.status for answer in answers)
        return worst

    def unforeseen(self, exc: BaseException, *, texts: Texts | None = None, debug: bool = False) -> Answer:
        """A 500 that tells nothing; in debug mode, the traceback."""
        document = self._document("about:blank", "Internal Server Error", 500, texts)
        if debug:
            document["traceback"] = "".join(traceback.format_exception(exc)).splitlines()
        return Answer(500, document, foreseen=False, reported=True)

    def _of_one(self, exc: BaseException, texts: Texts | None, debug: bool) -> Answer:
        kind = self.problems.find(type(exc))
        if kind is not None and isinstance(exc, Exception):
            return self._of_declared(exc, kind, texts)
        if isinstance(exc, HTTPException):
            return self._of_http(exc, texts)
        if isinstance(exc, RequestValidationError | WebSocketRequestValidationError):
            return self._of_validation(exc, texts)
        if isinstance(exc, WebSocketException):
            return _of_close(exc)
        return self.unforeseen(exc, texts=texts, debug=debug)

    def _of_declared(self, exc: Exception, kind: Problem, texts: Texts | None) -> Answer:
        document = self._document(kind.type, kind.title, kind.status, texts)
        detail = kind.detail_of(exc)
        if detail is not None:
            document["detail"] = detail
        document.update({name: getattr(exc, name) for name in kind.members})
        return Answer(
            kind.status,
            document,
            dict(kind.headers_of(exc) or {}),
            kind.close_code or close_code_of(kind.status),
            reported=kind.status >= 500,
        )

    def _of_http(self, exc: HTTPException, texts: Texts | None) -> Answer:
        status = exc.status_code
        if isinstance(exc, ProblemError):
            document = exc.document()
            document["type"] = self.problems.uri(exc.type)
            if texts is not None:
                _translate(document, exc.type, exc.title, texts)
        else:
            title = phrase(status)
            document = self._document("about:blank", title, status, texts)
            if exc.detail != title:
                _add_detail(document, exc.detail, status)
        return Answer(status, document, exc.headers or {}, close_code_of(status))

    def _of_validation(
        self, exc: RequestValidationError | WebSocketRequestValidationError, texts: Texts | None
    ) -> Answer:
        errors = [each for each in exc.errors() if isinstance(each, MAPPING)]  # anybody may raise one
        document = self._document("about:blank", "Unprocessable Content", 422, texts)
        document["errors"] = field_errors(
            errors,
            getattr(exc, "body", None),
            limit=self._max_errors,
            texts=texts,
            quote=self._validator_text,
        )
        if len(errors) > self._max_errors:
            document["omitted"] = len(errors) - self._max_errors
        return Answer(422, document, close_code=1008)

    def _document(self, kind: str, title: str, status: int, texts: Texts | None) -> dict[str, Any]:
        uri = kind if kind == "about:blank" else self.problems.uri(kind)
        document = {"type": uri, "title": title, "status": status}
        if texts is not None:
            _translate(document, kind, title, texts)
        return document


def _translate(document: dict[str, Any], kind: str, title: str, texts: Texts) -> None:
    """A catalogue names a title by the type, or by the English title of an `about:blank`."""
    text = texts.get(kind) or texts.get(title)
    if text:
        with suppress(ValueError):
            document["title"] = filled(text, {})


def _add_detail(document: dict[str, Any], detail: Any, status: int) -> None:
    """An `HTTPException` may carry any JSON as its detail; RFC 9457 wants a text there."""
    if isinstance(detail, str):
        if detail != responses.get(status):  # what Starlette says where nothing was said
            document["detail"] = detail
    elif isinstance(detail, Mapping):
        document.update({str(key): value for key, value in detail.items() if key not in _RESERVED})
    elif detail is not None:
        document["errors"] = detail


def _of_close(exc: WebSocketException) -> Answer:
    """Before accept there is no close code to send: the status says what it would have said."""
    status = {1008: 403, 1009: 413, 1011: 500, 1012: 503, 1013: 503}.get(exc.code, 400)
    if 4400 <= exc.code <= 4599:
        status = exc.code - 4000
    document = {"type": "about:blank", "title": phrase(status), "status": status, "close_code": exc.code}
    if exc.reason:
        document["detail"] = exc.reason
    return Answer(status, document, close_code=exc.code)
