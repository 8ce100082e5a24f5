"""Errors as real clients of real servers meet them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.servers import Hypercorn, Uvicorn

APP = "tests.problems.served:app"


@pytest.fixture(scope="module", params=["h11", "httptools", "hypercorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Uvicorn | Hypercorn]:
    served = (
        Hypercorn(APP) if request.param == "hypercorn" else Uvicorn(APP, arguments=["--http", request.param])
    )
    with served:
        yield served


def _get(connection: HTTPConnection, path: str) -> Any:
    connection.request("GET", path, headers={"Origin": "https://shop.example"})
    response = connection.getresponse()
    return response, response.read()


def _logged(server: Uvicorn | Hypercorn, text: str, count: int) -> Counter[str]:
    """What the server's log has counted once `text` was written `count` times."""
    deadline = time.monotonic() + 5
    while True:
        server._log.seek(0)
        output = server._log.read().decode()
        if output.count(text) >= count or time.monotonic() > deadline:
            words = [
                "LOGGED fastapi_prodkit.problems",
                "Traceback",
                "Exception in ASGI",
                "Error in ASGI",
                "canary",
                text,
            ]
            return Counter({word: output.count(word) for word in words})
        time.sleep(0.02)


def test_a_connection_survives_a_hundred_500s_and_each_is_logged_once(server: Uvicorn | Hypercorn) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    kept = connection.sock
    for number in range(100):
        response, content = _get(connection, "/boom")
        assert (response.status, json.loads(content)["title"]) == (500, "Internal Server Error")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert connection.sock is kept, f"the server hung up after {number + 1}"
    connection.close()
    logged = _logged(server, "ValueError in GET /boom", 100)
    assert logged["ValueError in GET /boom"] == 100
    assert logged["Exception in ASGI"] == logged["Error in ASGI"] == logged["canary"] == 0
    assert logged["Traceback"] == logged["LOGGED fastapi_prodkit.problems"]


def test_a_body_that_breaks_is_aborted_and_one_that_can_say_so_is_not(server: Uvicorn | Hypercorn) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/csv")
    broken = connection.getresponse()
    with broken, pytest.raises((IncompleteRead, ConnectionError)):
        broken.read()
    connection.close()
    response, content = _get(connection, "/lines")
    assert response.status == 200
    assert json.loads(content.splitlines()[-1])["status"] == 500
    connection.close()
    logged = _logged(server, "in the middle of the response to GET /lines", 1)
    assert logged["Exception in ASGI"] == logged["Error in ASGI"] == 0


def test_a_background_task_that_fails_leaves_the_connection(server: Uvicorn | Hypercorn) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    kept = connection.sock
    for _ in range(3):
        assert _get(connection, "/task")[1] == b'"done"'
    assert connection.sock is kept
    connection.close()
    logged = _logged(server, "after the response to GET /task", 3)
    assert logged["after the response to GET /task"] == 3
    assert logged["Exception in ASGI"] == logged["Error in ASGI"] == 0


@pytest.mark.parametrize(("path", "status"), [("refused", 401), ("closed-early", 403), ("no/where", 404)])
def test_a_socket_is_refused_with_a_problem(server: Uvicorn | Hypercorn, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://127.0.0.1:{server.port}/{path}"):
        pytest.fail("it was accepted")
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(response.body)["status"] == status


@pytest.mark.parametrize(
    ("path", "code", "reason"), [("broken", 1011, "Internal Server Error"), ("mapped", 1008, "é" * 61)]
)
def test_an_accepted_socket_is_closed_and_never_cut(
    server: Uvicorn | Hypercorn, path: str, code: int, reason: str
) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/{path}") as websocket:
        websocket.send("go")
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(timeout=5)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)
