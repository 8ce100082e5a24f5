"""Which exception is which problem: declared on the class, or registered for classes of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar, Unpack

from .._arguments import count, names, text
from ..errors import ConfigurationError, phrase

__all__ = ["Problem", "Problems", "problem"]

E = TypeVar("E", bound=type[Exception])
Detail = str | Callable[[Any], str | None] | None
Headers = Mapping[str, str] | Callable[[Any], Mapping[str, str]]

_DECLARED = "__problem__"
_RESERVED = frozenset({"type", "title", "status", "detail", "instance"})
_MOST_CLASSES = 1000  # an app has dozens; one that makes classes as it goes shall not fill the memory
_SLUG = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A kind of problem (RFC 9457), and how an exception of that kind becomes a document.

    :param status: the HTTP status code, 400 to 599.
    :param type: a URI reference, or a bare word that `Problems(base=)` turns into one.
    :param title: a short summary of the kind; defaults to the status phrase.
    :param detail: what the client reads about this occurrence: a text in which `{name}` stands for an
        attribute of the exception, or a function of the exception. `str(exc)` is never used unasked.
    :param members: attributes of the exception that become extension members.
    :param headers: header fields of the response, or a function of the exception.
    :param close_code: the close code of an accepted WebSocket (RFC 6455, 7.4); see `close_code_of`.
    :param description: what the page of this type says: what happened, what a client can do.
    :raises ConfigurationError: for a status, type, member or close code that cannot be.
    """

    status: int
    type: str = "about:blank"
    title: str = ""
    detail: Detail = None
    members: Iterable[str] = ()
    headers: Headers = field(default_factory=dict, hash=False)
    close_code: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        if not 400 <= count("status", self.status, least=0) <= 599:
            raise ConfigurationError(f"status={self.status!r}: a problem has a status from 400 to 599")
        for name in ("type", "title", "description"):
            text(name, getattr(self, name))
        if not self.type or re.search(r"[\s\"<>\\^`{|}]", self.type):
            raise ConfigurationError(f"type={self.type!r} is not a URI reference (RFC 3986)")
        object.__setattr__(self, "members", tuple(names("members", self.members)))
        if taken := _RESERVED.intersection(self.members):
            raise ConfigurationError(f"members={sorted(taken)} are members that RFC 9457 defines")
        if count("close_code", self.close_code, least=0) and not may_be_sent(self.close_code):
            raise ConfigurationError(
                f"close_code={self.close_code!r} may not be sent (RFC 6455, 7.4): "
                "use 1008, 1011 or 1013, or one from 3000 to 4999"
            )
        if self.detail is not None and not callable(self.detail):
            text("detail", self.detail)
        if not callable(self.headers) and not isinstance(self.headers, Mapping):
            raise ConfigurationError(
                f"headers={self.headers!r}: give a mapping, or a function that returns one"
            )
        if not self.title:
            object.__setattr__(self, "title", phrase(self.status))

    def detail_of(self, exc: Exception) -> str | None:
        """What a client is told about this occurrence."""
        if self.detail is None:
            return None
        if callable(self.detail):
            return self.detail(exc)
        return self.detail.format_map(_Attributes(exc))

    def headers_of(self, exc: Exception) -> Mapping[str, str]:
        return self.headers(exc) if callable(self.headers) else self.headers


_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry the code (RFC 6455, 7.4): 1005 and 1006, which a client is said to have
    closed with, may not."""
    return code in _CLOSE_CODES or 3000 <= code <= 4999


def close_code_of(status: int) -> int:
    """The close code that says of an accepted WebSocket what `status` says of a request."""
    if status in (429, 503):
        return 1013
    return 1011 if status >= 500 else 1008


class Options(TypedDict, total=False):
    """What `Problem` takes besides the status."""

    type: str
    title: str
    detail: Detail
    members: Iterable[str]
    headers: Headers
    close_code: int
    description: str


def problem(*, status: int, **options: Unpack[Options]) -> Callable[[E], E]:
    """Declare what an exception class means to a client; its subclasses inherit it.

        @problem(status=409, type="out-of-stock", detail="{sku} is sold out", members=["sku"])
        class OutOfStock(Exception):
            '''Nothing is left of this article. Try again when it is back.'''

    The class's docstring is what the page of the type says. Options and errors are those of `Problem`.
    """

    def declare(cls: E) -> E:
        _check_class(cls)
        described: Options = {"description": cls.__dict__.get("__doc__") or "", **options}
        setattr(cls, _DECLARED, Problem(status=status, **described))
        return cls

    return declare


def _check_class(cls: Any) -> None:
    if Exception not in getattr(cls, "__mro__", ()):
        raise ConfigurationError(f"{cls!r} is not an exception class, which alone can be raised")


class Problems:
    """The problems of an app: it resolves type URIs, and knows the exceptions of other people's classes.

    :param base: what stands before a type that is a bare word: `out-of-stock` becomes
        `/problems/out-of-stock`. An absolute URL makes the types absolute, as RFC 9457 recommends.
    """

    def __init__(self, *, base: str = "/problems/") -> None:
        if not text("base", base).endswith("/") or not (base.startswith("/") or "://" in base):
            raise ConfigurationError(
                f"base={base!r} must be an absolute path or URL that ends with '/', such as '/problems/'"
            )
        self.base = base
        self._registered: dict[type[Exception], Problem] = {}
        self._found: dict[type[BaseException], Problem | None] = {}

    def register(self, cls: type[Exception], *, status: int, **options: Unpack[Options]) -> None:
        """Say what an exception class that is not yours, and its subclasses, means to a client.

        It wins over what the class declares. Options and errors are those of `Problem`.
        """
        _check_class(cls)
        self._registered[cls] = Problem(status=status, **options)
        self._found.clear()

    def find(self, cls: type[BaseException]) -> Problem | None:
        """What the class, or the nearest of its ancestors, is registered or declared to mean."""
        try:
            return self._found[cls]
        except KeyError:
            if len(self._found) >= _MOST_CLASSES:
                self._found.clear()
            found = self._found[cls] = self._search(cls)
            return found

    def registered(self) -> Iterator[type[Exception]]:
        """The classes that were registered."""
        return iter(self._registered)

    def kinds(self) -> Iterator[Problem]:
        """What was registered, and what was declared by classes that were raised already."""
        yield from self._registered.values()
        yield from filter(None, list(self._found.values()))

    def uri(self, type: str) -> str:
        """The URI reference of a problem type: a bare word is put behind `base`."""
        return type if ":" in type or "/" in type or not _SLUG.fullmatch(type) else self.base + type

    def _search(self, cls: type[BaseException]) -> Problem | None:
        for each in cls.__mro__:
            found = self._registered.get(each) or each.__dict__.get(_DECLARED)
            if isinstance(found, Problem):
                return found
        return None


class _Attributes:
    """Looks a template's names up on the exception."""

    def __init__(self, exc: Exception) -> None:
        self._exc = exc

    def __getitem__(self, name: str) -> Any:
        return getattr(self._exc, name)
