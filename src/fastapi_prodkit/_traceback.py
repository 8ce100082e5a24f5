"""A traceback without the texts of its exceptions: where it broke, and not with whose data."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from traceback import format_exception, walk_tb
from types import TracebackType

from .errors import ConfigurationError

__all__ = ["traceback_text"]

_MOST_EXCEPTIONS = 20
_MOST_FRAMES = 60


def traceback_text(exc: BaseException, *, texts: bool = False) -> str:
    """The traceback of an exception, its causes and the members of its groups, bounded.

    :param texts: also what the exceptions say, as Python prints it. It may hold a secret: a validator's
        message, a URL with a password, a row of the database.
    """
    if texts:
        return "".join(format_exception(exc)).rstrip("\n")
    lines: list[str] = []
    for number, (note, each) in enumerate(_chain(exc, "", set())):
        if number == _MOST_EXCEPTIONS:
            lines.append("... and more exceptions")
            break
        if note:
            lines.append(note)
        lines.extend(_frames(each.__traceback__))
        ours = isinstance(each, ConfigurationError)  # says what is to be mended, of no data of anybody's
        lines.append(f"{_name(type(each))}: {each}" if ours else _name(type(each)))
    return "\n".join(lines)


def _chain(exc: BaseException, note: str, seen: set[int]) -> Iterator[tuple[str, BaseException]]:
    """Outermost last, as Python prints it; the members of a group follow their group."""
    if id(exc) in seen or len(seen) > _MOST_EXCEPTIONS:
        return
    seen.add(id(exc))
    if exc.__cause__ is not None:
        yield from _chain(exc.__cause__, note, seen)
        note = "which caused:"
    elif exc.__context__ is not None and not exc.__suppress_context__:
        yield from _chain(exc.__context__, note, seen)
        note = "while it was handled:"
    yield note, exc
    if isinstance(exc, BaseExceptionGroup):
        for number, each in enumerate(exc.exceptions, 1):
            yield from _chain(each, f"member {number} of the group:", seen)


def _frames(tb: TracebackType | None) -> Iterator[str]:
    if tb is None:
        return
    yield "Traceback (most recent call last):"
    frames = list(walk_tb(tb))
    for index, (frame, line) in enumerate(frames):
        if len(frames) > _MOST_FRAMES and index == _MOST_FRAMES // 2:
            yield f"  ... {len(frames) - _MOST_FRAMES} more frames ..."
        if _MOST_FRAMES // 2 <= index < len(frames) - _MOST_FRAMES // 2:
            continue
        code = frame.f_code
        yield f'  File "{code.co_filename}", line {line}, in {code.co_name}'
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        if source:
            yield f"    {source}"


def _name(cls: type[BaseException]) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
