"""The errors that this package raises for a developer to see.

What a *client* sees is a problem document: see `ProblemError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException

__all__ = [
    "ConfigurationError",
    "MissingExtraError",
    "ProblemError",
    "ProdkitError",
    "UnavailableError",
    "phrase",
    "status_of",
]


def phrase(status: int) -> str:
    """The reason phrase of a status code by RFC 9110; a general one where no RFC defines it."""
    return _PHRASES.get(status) or ("Client Error" if status < 500 else "Server Error")


_PHRASES = {
    **{status.value: status.phrase for status in HTTPStatus},
    # Pythons before 3.13 still have the phrases of RFC 2616.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def status_of(error: Exception) -> int:
    """The status that an exception says it is answered with, itself or by `@problem`; 500 if it does not."""
    if isinstance(error, HTTPException):
        return error.status_code
    declared = getattr(error, "__problem__", None)
    status: int = 500 if declared is None else declared.status
    return status


class ProdkitError(Exception):
    """The root of the errors that this package raises for developers."""


class ConfigurationError(ProdkitError, ValueError):
    """An argument or a wiring that cannot work.

    Raised at construction or at start-up; the message names the thing and the mend.
    """


class MissingExtraError(ProdkitError, ImportError):
    """An optional dependency is not installed; the message ends with the pip line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Run: pip install 'fastapi-prodkit[{extra}]'", name=package
        )


class UnavailableError(ProdkitError):
    """The place behind a port did not answer in time, or refused.

    Components catch it and degrade: it never becomes a 5xx of ours.
    """


class ProblemError(HTTPException):
    """An HTTP error with the members of an RFC 9457 problem document.

    It is a plain `HTTPException` to FastAPI, which answers `{"detail": ...}`; with
    `ProblemMiddleware` installed the client gets the whole document.

    :param status: the HTTP status code, 400 to 599.
    :param detail: what happened, for this client and this request; never a secret.
    :param type: a URI reference that identifies the kind of problem.
    :param title: a short summary of the kind; defaults to the status phrase.
    :param headers: header fields for the response, such as `Retry-After`.
    :param members: extension members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        type: str = "about:blank",
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        if status not in range(400, 600):
            raise ConfigurationError(f"status={status!r}: a problem has a status from 400 to 599")
        self.type = type
        self.title = title if title is not None else phrase(status)
        super().__init__(status, detail or self.title, dict(headers) if headers else None)
        self.members = members

    def document(self) -> dict[str, Any]:
        """The problem document, without `instance`."""
        document: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status_code,
        }
        if self.detail != self.title:
            document["detail"] = self.detail
        return {**document, **self.members}
