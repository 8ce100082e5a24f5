"""The other end: what a service that calls yours makes of a problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from starlette.exceptions import HTTPException

from ..errors import ConfigurationError, ProdkitError, phrase
from .registry import Problem, Problems, problem

__all__ = ["RemoteProblemError", "raise_for_problem"]


class Response(Protocol):
    """What the clients httpx, httpx2 and requests have in common."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def json(self) -> Any: ...


@problem(status=502, detail=lambda _: "A service that this one depends on answered with an error.")
class RemoteProblemError(ProdkitError):
    """A service answered with an error that no exception class of yours stands for.

    Unhandled it is a 502: what the other service says is not for your clients.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(f"{document['status']} {document['title']} ({document['type']})")
        self.document = document
        self.status: int = document["status"]
        self.type: str = document["type"]
        self.title: str = document["title"]
        self.detail: str | None = document.get("detail")


def raise_for_problem(
    response: Response,
    *,
    exceptions: Iterable[type[Exception]] | None = None,
    problems: Problems | None = None,
) -> None:
    """Raise the exception that an error response stands for; a response below 400 passes.

    The class is found by the problem's type. The exception has the members that its class declares, its
    text is the problem's detail, and its `__init__` is not called. A class with a method
    `from_problem(document)` makes its own.

    :param exceptions: the classes to choose from; by default every one declared with `@problem`.
    :param problems: a registry, for classes that are registered and not declared.
    :raises RemoteProblemError: for an error of a type that no class stands for, or that is no problem.
    :raises ConfigurationError: if several classes stand for the type.
    """
    if response.status_code < 400:
        return
    document = _document(response)
    registry = problems if problems is not None else Problems()
    uri = document["type"]
    if exceptions is not None:
        matching = _matching(exceptions, uri, registry)
    else:  # what a registry says goes before what some module of this process declares
        matching = _matching(registry.registered(), uri, registry) or _matching(
            _declared(Exception), uri, registry
        )
    if not matching:
        raise RemoteProblemError(document)
    if len(matching) > 1:
        names = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls, _ in matching[:2])
        raise ConfigurationError(f"{names} both stand for {uri}: name one with exceptions=[...]")
    cls, kind = matching[0]
    raise _remake(cls, kind, document)


def _document(response: Response) -> dict[str, Any]:
    status = response.status_code
    try:
        found = response.json() if "json" in response.headers.get("content-type", "") else {}
    except ValueError:
        found = {}
    document = found if isinstance(found, dict) else {}
    kind, title = document.get("type"), document.get("title")
    return {
        **document,
        "type": kind if isinstance(kind, str) else "about:blank",
        "title": title if isinstance(title, str) else phrase(status),
        "status": status,
    }


def _matching(
    known: Iterable[type[Exception]], uri: str, problems: Problems
) -> list[tuple[type[Exception], Problem]]:
    return [(cls, kind) for cls in known if (kind := _kind(cls, uri, problems)) is not None]


def _kind(cls: type[Exception], uri: str, problems: Problems) -> Problem | None:
    """What the class means, if that is what the URI names; the service may have another base."""
    kind = problems.find(cls)
    if kind is None or kind.type == "about:blank":
        return None
    bare = problems.uri(kind.type) != kind.type
    same = uri in (kind.type, problems.uri(kind.type)) or (bare and uri.rpartition("/")[2] == kind.type)
    return kind if same else None


def _remake(cls: type[Exception], kind: Problem, document: dict[str, Any]) -> Exception:
    make = getattr(cls, "from_problem", None)
    if make is not None:
        made: Exception = make(document)
        return made
    text = document.get("detail") or document["title"]
    error: Exception = cls.__new__(cls, text)
    if isinstance(error, HTTPException):  # its text is made of these
        error.status_code, error.detail, error.headers = document["status"], text, None
    for name in kind.members:
        setattr(error, name, document.get(name))
    return error


def _declared(cls: type[Exception]) -> Iterator[type[Exception]]:
    """The classes declared with `@problem`, each once; Python itself keeps the list of all subclasses."""
    seen: set[type[Exception]] = set()
    waiting = cls.__subclasses__()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        waiting += each.__subclasses__()
        if "__problem__" in each.__dict__:
            yield each
