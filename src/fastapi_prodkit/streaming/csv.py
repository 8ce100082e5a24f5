"""Rows as text/csv (RFC 4180)."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel
from starlette.background import BackgroundTask

from .._arguments import names, text
from ..errors import ProblemError
from .response import StreamResponse

__all__ = ["CSVResponse"]


class CSVResponse(StreamResponse):
    """Each item is a row, a sequence, a mapping or a model: `CSVResponse(orders(), filename="orders.csv")`.

    CSV has no place for an error: after the first row the connection breaks off, so that a client never
    takes half a file for a whole one.

    :param items: rows.
    :param header: the names of the columns; by default the keys of the first row, if that has any.
    :param filename: the name under which a browser saves it (RFC 6266).
    :param escape_formulas: put a `'` before cells that a spreadsheet would run: text that begins with
        `=`, `+`, `-`, `@`, a tab or a carriage return. For data that strangers typed and people open.
    :param send_timeout: seconds that a client may take to accept a write before it counts as gone.
    :param drain_timeout: seconds that the stream may go on when the app stops.
    """

    media_type = "text/csv"

    def __init__(
        self,
        items: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        header: Sequence[str] | None = None,
        filename: str | None = None,
        escape_formulas: bool = False,
        send_timeout: float = 30.0,
        drain_timeout: float = 10.0,
        background: BackgroundTask | None = None,
    ) -> None:
        if header is not None:
            names("header", header)
        super().__init__(
            items,
            status_code,
            headers,
            send_timeout=send_timeout,
            drain_timeout=drain_timeout,
            background=background,
        )
        if filename is not None:
            self.headers.setdefault("Content-Disposition", _attachment(text("filename", filename)))
        self._header = header
        self._escape = escape_formulas
        if header is not None:
            self.head = _Rows(None, escape=False)(header)

    def encoder(self) -> Callable[[Any], bytes]:
        return _Rows(self._header, escape=self._escape)

    def ending(self, problem: ProblemError) -> None:
        return None


class _Rows:
    """From a row to its line; it learns the columns from the first mapping."""

    def __init__(self, header: Sequence[str] | None, *, escape: bool) -> None:
        self._columns = header
        self._is_derived = header is None
        self._escape = escape
        self._lines: list[str] = []
        self._writer = csv.writer(self)

    def write(self, line: str) -> None:
        self._lines.append(line)

    def __call__(self, item: Any) -> bytes:
        row = _fields(item)
        if isinstance(row, Mapping):
            if self._columns is None:
                self._columns = list(row)
                self._writer.writerow(self._columns)
            elif self._is_derived and (extra := row.keys() - set(self._columns)):
                raise ValueError(f"a row has columns that the first had not: {sorted(extra)}")
            row = [row.get(column) for column in self._columns]
        self._writer.writerow([_inert(cell) for cell in row] if self._escape else row)
        text = "".join(self._lines)
        self._lines.clear()
        return text.encode()


def _fields(item: Any) -> Mapping[str, Any] | Sequence[Any]:
    """The cells of a row, by their names where it has any."""
    if isinstance(item, BaseModel):
        return item.model_dump(mode="json")
    if is_dataclass(item):
        return {field.name: getattr(item, field.name) for field in fields(item)}
    if isinstance(item, Mapping):
        return item
    if hasattr(item, "keys"):  # the records of asyncpg and sqlite3 are no mappings
        return {key: item[key] for key in item.keys()}  # noqa: SIM118 -- iterating gives the values
    if isinstance(item, Sequence) and not isinstance(item, str | bytes):
        return item
    raise TypeError(
        f"a row of CSV is a model, a dataclass, a mapping or a sequence, no {type(item).__name__}"
    )


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _attachment(filename: str) -> str:
    if filename.isascii() and filename.isprintable() and not set(filename) & set('"\\'):
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=utf-8''{quote(filename, safe='')}"
