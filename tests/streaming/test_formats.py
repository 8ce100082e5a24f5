from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi.sse import ServerSentEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from fastapi_prodkit import CSVResponse, EventStreamResponse, NDJSONResponse

from .wire import Wire


class Order(BaseModel):
    id: int
    placed_at: datetime = Field(serialization_alias="placedAt")


@dataclass
class Line:
    sku: UUID
    price: Decimal


PLACED = datetime(2026, 11, 22, tzinfo=UTC)
SKU = UUID(int=7)


async def _body(response: NDJSONResponse | EventStreamResponse | CSVResponse) -> bytes:
    wire = Wire()
    await wire.serve(response)
    return wire.body


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (Order(id=1, placed_at=PLACED), b'{"id":1,"placedAt":"2026-11-22T00:00:00Z"}\n'),
        ({"order": Order(id=1, placed_at=PLACED)}, b'{"order":{"id":1,"placedAt":"2026-11-22T00:00:00Z"}}\n'),
        (Line(SKU, Decimal("1.50")), b'{"sku":"00000000-0000-0000-0000-000000000007","price":"1.50"}\n'),
        ({"text": "two\nlines \u2028 é"}, '{"text":"two\\nlines \u2028 é"}\n'.encode()),
        ({"ratio": float("nan"), "rest": float("inf")}, b'{"ratio":null,"rest":null}\n'),
        (None, b"null\n"),
    ],
)
async def test_a_line_is_what_pydantic_makes_of_the_item(item: Any, line: bytes) -> None:
    assert await _body(NDJSONResponse([item])) == line


@settings(max_examples=50, deadline=None)
@given(st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=5))
async def test_any_items_come_back_from_their_lines(items: list[Any]) -> None:
    body = await _body(NDJSONResponse(items))
    assert [json.loads(line) for line in body.decode().split("\n")[:-1]] == items


@pytest.mark.parametrize(
    ("item", "event"),
    [
        ({"id": 1}, b'data: {"id":1}\n\n'),
        ("two\nlines", b'data: "two\\nlines"\n\n'),
        (
            ServerSentEvent(data={"id": 1}, event="order", id="7", retry=100),
            b'event: order\ndata: {"id":1}\nid: 7\nretry: 100\n\n',
        ),
        (ServerSentEvent(raw_data="two\nlines"), b"data: two\ndata: lines\n\n"),
        (ServerSentEvent(comment="hello"), b": hello\n\n"),
    ],
)
async def test_an_event_is_written_as_the_html_standard_has_it(item: Any, event: bytes) -> None:
    assert await _body(EventStreamResponse([item])) == event


def test_an_event_stream_asks_not_to_be_stored_nor_buffered() -> None:
    headers = EventStreamResponse([], headers={"X-Shop": "1"}).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert headers["x-shop"] == "1"


def test_a_header_that_is_given_takes_the_place_of_ours_in_any_case() -> None:
    given = {"cache-control": "private", "X-ACCEL-BUFFERING": "yes"}
    headers = EventStreamResponse([], headers=given).headers
    assert (headers.getlist("cache-control"), headers.getlist("x-accel-buffering")) == (["private"], ["yes"])
    table = CSVResponse([], filename="a.csv", headers={"content-disposition": "inline"})
    assert table.headers.getlist("content-disposition") == ["inline"]


async def test_mappings_name_the_columns_by_the_first_of_them() -> None:
    body = await _body(CSVResponse([{"id": 1, "name": "a,b"}, {"name": 'say "hi"', "id": 2}, {"id": 3}]))
    assert body == b'id,name\r\n1,"a,b"\r\n2,"say ""hi"""\r\n3,\r\n'


async def test_a_header_chooses_and_orders_the_columns() -> None:
    rows: Iterable[Any] = [{"id": 1, "secret": "x", "name": "a"}]
    assert await _body(CSVResponse(rows, header=["name", "id"])) == b"name,id\r\na,1\r\n"


async def test_models_and_dataclasses_are_rows_too() -> None:
    orders = CSVResponse([Order(id=1, placed_at=PLACED)], header=["placed_at", "id"])
    assert await _body(orders) == b"placed_at,id\r\n2026-11-22T00:00:00Z,1\r\n"
    lines = await _body(CSVResponse([Line(SKU, Decimal("1.50"))]))
    assert lines == b"sku,price\r\n00000000-0000-0000-0000-000000000007,1.50\r\n"


async def test_the_records_of_a_database_driver_name_their_columns() -> None:
    def query() -> list[Any]:
        connection = sqlite3.connect(":memory:")
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT 1 AS id, 'tea' AS item").fetchall()
        connection.close()
        return rows

    assert await _body(CSVResponse(await asyncio.to_thread(query))) == b"id,item\r\n1,tea\r\n"


@pytest.mark.parametrize("row", ["id,name", b"x", 3, {1, 2}])
async def test_what_is_no_row_is_an_error_and_not_a_row_of_characters(row: Any) -> None:
    with pytest.raises(TypeError, match="a row of CSV is a model"):
        await _body(CSVResponse([row]))


async def test_a_header_is_there_even_without_rows() -> None:
    async def nothing() -> AsyncIterator[list[int]]:
        return
        yield

    assert await _body(CSVResponse(nothing(), header=["id"])) == b"id\r\n"


async def test_a_row_with_columns_that_the_first_had_not_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"columns that the first had not: \['name'\]"):
        await _body(CSVResponse([{"id": 1}, {"id": 2, "name": "a"}]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2)))
async def test_any_rows_come_back_from_their_file(rows: list[list[str]]) -> None:
    body = await _body(CSVResponse(rows))
    assert list(csv.reader(io.StringIO(body.decode(), newline=""))) == rows


async def test_cells_that_a_spreadsheet_would_run_are_made_text_on_request() -> None:
    rows: Iterable[Any] = [["=1+1", "+49", "-5", "@x", "\tx", "plain", -5]]
    assert await _body(CSVResponse(rows)) == b"=1+1,+49,-5,@x,\tx,plain,-5\r\n"
    assert await _body(CSVResponse(rows, escape_formulas=True)) == b"'=1+1,'+49,'-5,'@x,'\tx,plain,-5\r\n"


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("orders.csv", 'attachment; filename="orders.csv"'),
        ("aufträge.csv", "attachment; filename*=utf-8''auftr%C3%A4ge.csv"),
        ('a"b.csv', "attachment; filename*=utf-8''a%22b.csv"),
        ("a\r\nSet-Cookie: x", "attachment; filename*=utf-8''a%0D%0ASet-Cookie%3A%20x"),
        ("a\0b\x7f.csv", "attachment; filename*=utf-8''a%00b%7F.csv"),
    ],
)
def test_a_filename_is_quoted_for_the_header(filename: str, disposition: str) -> None:
    response = CSVResponse([], filename=filename)
    assert response.headers["content-disposition"] == disposition
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
