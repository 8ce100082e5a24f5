"""One record and at most one traceback for each request, under the servers that people run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Self

import httpx2
import pytest
from websockets.sync.client import connect

from tests.servers import ROOT, Uvicorn, free_port, wait_until_open

APP = "tests.request_logging.served:app"


class Hypercorn:
    """A real hypercorn process, with its access log on."""

    def __init__(self) -> None:
        self.port = free_port()
        self.output = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by stop()
        command = ["-m", "hypercorn", APP, "--bind", f"127.0.0.1:{self.port}", "--access-logfile", "-"]
        command += ["--graceful-timeout", "1"]
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT
        )
        wait_until_open(self.port, self.process)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.seek(0)
        self.output = self._log.read().decode()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _serving(name: str) -> Uvicorn | Hypercorn:
    if name == "hypercorn":
        return Hypercorn()
    return Uvicorn(APP, arguments=["--http", name, "--timeout-graceful-shutdown", "1"])


def _hang_up(port: int, path: str, *, after: int) -> None:
    """Ask, read `after` bytes of the answer, and leave with a reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        while after > 0:
            after -= len(connection.recv(after))
        time.sleep(0.1)  # a reset overtakes what the server has not read
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _ask_everything(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    for path in ("/ok", "/nowhere", "/error", "/stream", "/background", "/middleware"):
        httpx2.get(url + path)
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(url + "/broken-stream")
    with connect(f"ws://127.0.0.1:{port}/socket?token=canary") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
    _hang_up(port, "/slow", after=0)
    _hang_up(port, "/endless", after=5000)
    time.sleep(0.7)  # the app has no way to tell that it has noticed


def _leave_hanging(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /hanging HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.2)


EXPECTED = {
    "/ok": "ok",
    "(unmatched)": None,
    "/error": "server_error",
    "/stream": "ok",
    "/background": "ok",
    "/broken-stream": "server_error",
    "/socket": "ok",
    "/slow": "client_disconnect",
    "/endless": "client_disconnect",
}


@pytest.mark.parametrize("server", ["h11", "httptools", "hypercorn"])
def test_a_server_s_log_has_one_record_and_at_most_one_traceback_per_request(server: str) -> None:
    with _serving(server) as served:
        _ask_everything(served.port)
        if server != "hypercorn":  # which, from Python 3.12 on, would wait for it for ever
            _leave_hanging(served.port)
    output = served.output
    records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    by_route = Counter(record["http.route"] for record in records)
    hanging = by_route.pop("/hanging", 0)
    assert hanging == (0 if server == "hypercorn" else 1)
    assert by_route == {**dict.fromkeys(EXPECTED, 1), "(unmatched)": 2}, output
    for record in records:
        if EXPECTED.get(record["http.route"]):
            assert record["outcome"] == EXPECTED[record["http.route"]], record
    assert {r["outcome"] for r in records if r["http.route"] == "/hanging"} <= {
        "cancelled",
        "client_disconnect",
    }
    for place in ("the endpoint", "a background task", "a stream", "a middleware"):
        assert output.count(f"\nValueError: raised in {place}\n") == 1
    of_ok = next(record for record in records if record["http.route"] == "/ok")
    assert f"{of_ok['request_id']} logged by the endpoint" in output
    assert "HTTP/1" not in output, "the server wrote its own access line"
    assert "canary" not in output
