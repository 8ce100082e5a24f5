from __future__ import annotations

import json

import httpx2
from fastapi.testclient import TestClient

from examples.export_stream import create_app
from tests.servers import Uvicorn


def test_orders_as_lines_and_as_a_table() -> None:
    client = TestClient(create_app())
    lines = client.get("/orders.ndjson", params={"count": 2000}).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(2000))
    table = client.get("/orders.csv", params={"count": 2})
    assert table.text == "id,item\r\n0,tea\r\n1,tea\r\n"
    assert table.headers["content-disposition"] == 'attachment; filename="orders.csv"'
    assert client.get("/orders.ndjson", params={"count": 2_000_000}).status_code == 422


def test_the_live_feed_ends_when_the_server_stops() -> None:
    with (
        Uvicorn("examples.export_stream:create_app", arguments=["--factory"]) as server,
        httpx2.stream("GET", f"{server.url}/clock", params={"interval": 60}) as response,
    ):
        chunks = response.iter_text()
        assert next(chunks).startswith("event: tick\ndata: ")
        server.stop(timeout=10)
        assert list(chunks) == []
