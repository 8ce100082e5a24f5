"""Everything together behind each server and each of its parsers: the same answers, one line per request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.servers import Hypercorn, Uvicorn
from tests.whole.everything import auth

TOKEN = {"Authorization": f"Bearer {auth.issue('ada', ttl=600)}"}
TARGET = "tests.whole.everything:create_app"
SERVERS = {
    "uvicorn h11 asyncio": ["--http", "h11", "--loop", "asyncio", "--ws", "wsproto"],
    "uvicorn httptools uvloop": ["--http", "httptools", "--loop", "uvloop", "--ws", "websockets"],
    "uvicorn httptools sansio": ["--http", "httptools", "--ws", "websockets-sansio"],
    "hypercorn": None,
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Uvicorn | Hypercorn]:
    arguments = SERVERS[request.param]
    opened = (
        Uvicorn(TARGET, arguments=["--factory", *arguments])
        if arguments is not None
        else Hypercorn(f"{TARGET}()")
    )
    with opened as server:
        yield server


def test_it_is_the_same_behind_every_server(server: Uvicorn | Hypercorn) -> None:
    url = f"http://127.0.0.1:{server.port}"
    with httpx2.Client(base_url=url, verify=False, timeout=10) as client:
        items = [client.get("/v1/items/1") for _ in range(2)]
        assert items[0].content == items[1].content
        assert "hit" in items[1].headers["cache-status"]
        connections = {
            client.get("/v1/boom").extensions["network_stream"].get_extra_info("client_addr")
            for _ in range(20)
        }
        assert len(connections) == 1  # kept alive, 500 after 500
        limited = [client.get("/v1/limited") for _ in range(51)]
        assert [answer.status_code for answer in limited] == [200] * 50 + [429]
        assert limited[-1].headers["content-type"] == "application/problem+json"
        assert client.get("/v1/lines?count=3").text == "0\n1\n2\n"
        with client.stream("GET", "/v1/stream") as stream:
            assert next(stream.iter_text()) == "data: 0\n\n"
        assert client.get("/health/ready").status_code == 200
    room = url.replace("http", "ws") + "/v1/rooms/a"
    with pytest.raises(InvalidStatus) as refusal:
        connect(room)
    assert refusal.value.response.status_code == 401
    with connect(room, additional_headers=TOKEN) as here, connect(room, additional_headers=TOKEN) as there:
        assert all("pid" in json.loads(socket.recv(timeout=5)) for socket in (here, there))
        here.send('"hello"')
        assert [json.loads(socket.recv(timeout=5)) for socket in (here, there)] == [{"said": "hello"}] * 2
        there.close()
        if isinstance(server, Uvicorn):
            server.process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                here.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    server.stop()
    records = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    outcomes = [record["outcome"] for record in records]
    assert len(records) == 2 + 20 + 51 + 1 + 1 + 3
    assert outcomes.count("server_error") == 20
    outcomes.remove("client_disconnect")  # who left the stream, which the server notices when it writes
    if isinstance(server, Uvicorn):  # hypercorn tells no close codes
        assert outcomes[-3:] == ["client_error", "ok", "cancelled"]
    assert server.output.count("ValueError in GET /v1/boom") == 20
    assert "Exception in ASGI application" not in server.output
