"""SIGTERM while everything is under way: nothing hangs and nothing that was accepted is lost."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.servers import RedisServer, Uvicorn
from tests.whole.everything import auth

TOKEN = {"Authorization": f"Bearer {auth.issue('ada', ttl=600)}"}
TARGET = "tests.whole.everything:create_app"


@pytest.fixture(params=["memory", "redis", "redis that hangs"])
def server(request: pytest.FixtureRequest) -> Iterator[Uvicorn]:
    place = RedisServer().start() if request.param != "memory" else None
    url = place.url if place is not None else "memory://"
    with Uvicorn(TARGET, arguments=["--factory"], environment={"REDIS_URL": url}) as server:
        if request.param == "redis that hangs":
            assert place is not None
            place.hang()
        yield server
    if place is not None:
        place.close()


def test_a_stop_ends_everything_and_loses_nothing(server: Uvicorn) -> None:
    ready = threading.Barrier(3, timeout=10)

    def slow() -> int:
        with httpx2.Client(verify=False, timeout=20) as client:
            ready.wait()
            return client.get(f"{server.url}/v1/slow?seconds=1").status_code

    def stream() -> str:
        with (
            httpx2.Client(verify=False, timeout=20) as client,
            client.stream("GET", f"{server.url}/v1/stream") as answer,
        ):
            chunks = answer.iter_text()
            first = next(chunks)
            ready.wait()
            return first + "".join(chunks)

    with (
        ThreadPoolExecutor(2) as pool,
        connect(server.url.replace("http", "ws") + "/v1/rooms/a", additional_headers=TOKEN) as socket,
        httpx2.Client(verify=False, timeout=20) as client,
    ):
        assert "pid" in json.loads(socket.recv(timeout=5))
        requested, streamed = pool.submit(slow), pool.submit(stream)
        for seconds in (0, 0.5, 1.5):
            answer = client.post(f"{server.url}/v1/work", params={"seconds": seconds})
            assert answer.status_code == 202
        ready.wait()
        server.wait_for("slow begun")
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert requested.result(timeout=10) == 200
        assert streamed.result(timeout=10) == "data: 0\n\n"
    assert server.process.wait(15) in (0, -signal.SIGTERM)  # uvicorn raises the signal again at its end
    assert time.monotonic() - begun < 8
    server.stop()
    assert server.output.count("work done") == 3
    assert server.output.count("stream closed") == 1
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output
    records = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    routes = sorted(record["http.route"] for record in records)
    assert routes == ["/v1/rooms/{room}", "/v1/slow", "/v1/stream", "/v1/work", "/v1/work", "/v1/work"]
    ended = {record["http.route"]: (record["level"], record["outcome"]) for record in records}
    assert ended.pop("/v1/rooms/{room}") == ("WARNING", "cancelled")
    assert set(ended.values()) == {("INFO", "ok")}
