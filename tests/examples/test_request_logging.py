from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from examples.request_logging import create_app
from tests.request_logging.lines import Lines


def test_the_details_are_written_of_the_order_that_failed_only(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    with TestClient(create_app(sink=lines), raise_server_exceptions=False) as client:
        ordered = client.post("/items/1/orders?customer=ada")
        broken = client.post("/items/2/orders?customer=ada")
    assert (ordered.status_code, broken.status_code) == (200, 500)
    assert "stock;dur=" in ordered.headers["server-timing"]
    access = lines.records
    assert [record["outcome"] for record in access] == ["ok", "server_error"]
    assert {record["user.id"] for record in access} == {"ada"}
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["message"], each["request_id"]) for each in logged] == [
        ("ordered", access[0]["request_id"]),
        ("looking for 2 among [1]", access[1]["request_id"]),
    ]
