"""Streams through a real server."""

from __future__ import annotations

import socket
import time

import httpx2
import pytest

from tests.servers import Uvicorn

APPS = ["app", "app_with_middlewares"]


@pytest.mark.parametrize("app", APPS)
def test_an_idle_event_stream_does_not_hold_a_server_that_is_told_to_stop(app: str) -> None:
    with (
        Uvicorn(f"tests.streaming.app:{app}") as server,
        httpx2.stream("GET", f"{server.url}/idle") as response,
    ):
        chunks = response.iter_raw()
        assert next(chunks) == b"data: 1\n\n"
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        assert list(chunks) == []  # a body that ends as a whole: a browser connects again
    assert "stream closed" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("app", APPS)
def test_a_client_that_leaves_an_idle_stream_closes_its_generator(app: str) -> None:
    with Uvicorn(f"tests.streaming.app:{app}") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /idle HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while b"data: 1" not in received:
                received += client.recv(4096)
        deadline = time.monotonic() + 5
        while "stream closed" not in server._read() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "stream closed" in server._read()
        server.stop()
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output


@pytest.mark.parametrize("app", APPS)
def test_a_broken_csv_breaks_off_and_broken_ndjson_keeps_the_connection(app: str) -> None:
    with Uvicorn(f"tests.streaming.app:{app}") as server, httpx2.Client(base_url=server.url) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            client.get("/broken.csv")
        lines = client.get("/broken.ndjson").text.splitlines()
        assert len(lines) == 4
        assert '"status":500' in lines[-1]
        server.stop()
    assert server.output.count("ValueError: a bug") <= 2
    assert server.output.count("Traceback (most recent call last)") == 2
