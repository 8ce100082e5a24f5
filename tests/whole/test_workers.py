"""Two processes that share one Redis-protocol server are one app: limits, cache and rooms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.servers import ROOT, RedisServer, Uvicorn, free_port, wait_until_open
from tests.whole.everything import auth

TOKEN = {"Authorization": f"Bearer {auth.issue('ada', ttl=600)}"}


@pytest.fixture(scope="module", params=["uvicorn --workers 2", "made before the fork"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    place = RedisServer().start()
    environment = {"REDIS_URL": place.url, "REDIS_TIMEOUT": "5"}  # a busy machine is not an outage
    if request.param.startswith("uvicorn"):
        arguments = ["--factory", "--workers", "2"]
        with Uvicorn(
            "tests.whole.everything:create_app", arguments=arguments, environment=environment
        ) as server:
            _wait_for_both(server.url)
            yield server.url
            assert server.stop() == 0
    else:
        port = free_port()
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.whole.prefork", str(port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=subprocess.DEVNULL,
        )
        wait_until_open(port, process)
        _wait_for_both(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(20) == 0
    place.close()


CLIENT = httpx2.Client(verify=False, timeout=10, limits=httpx2.Limits(max_keepalive_connections=0))


def _get(url: str, method: str = "GET") -> httpx2.Response:
    """Over a connection of its own, so that either process may answer."""
    return CLIENT.request(method, url)


def _wait_for_both(url: str) -> None:
    deadline = time.monotonic() + 20
    pids: set[int] = set()
    while len(pids) < 2 and time.monotonic() < deadline:
        try:
            pids.add(_get(f"{url}/v1/often").json())
        except httpx2.TransportError:
            time.sleep(0.05)
    assert len(pids) == 2


def _until(condition: Callable[[], Any], *, attempts: int = 200) -> Any:
    for _ in range(attempts):
        if found := condition():
            return found
    raise AssertionError("both processes should have had their turn by now")


def test_the_limit_is_exact_over_both(url: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: _get(f"{url}/v1/limited"), range(120)))
    admitted = [answer for answer in answers if answer.status_code == 200]
    assert len(admitted) == 50
    assert len({answer.json() for answer in admitted}) == 2
    assert {answer.status_code for answer in answers} == {200, 429}
    left = [answer.headers["ratelimit"].partition(";r=")[2].partition(";")[0] for answer in admitted]
    assert sorted(map(int, left)) == list(range(50))


def test_what_one_computed_the_other_serves_and_what_one_forgets_both_forget(url: str) -> None:
    item = f"{url}/v1/items/1"
    for _ in range(5):
        bodies = {_get(item).text for _ in range(12)}
        assert len(bodies) == 1
        assert _get(item, "DELETE").json() is True
        assert {_get(item).text for _ in range(12)}.isdisjoint(bodies)


def test_a_message_reaches_the_room_in_both(url: str) -> None:
    with ExitStack() as stack:
        sockets: dict[int, ClientConnection] = {}

        def both() -> bool:
            socket = stack.enter_context(
                connect(url.replace("http", "ws") + "/v1/rooms/lobby", additional_headers=TOKEN)
            )
            sockets.setdefault(json.loads(socket.recv(timeout=5))["pid"], socket)
            return len(sockets) == 2

        _until(both, attempts=60)
        here, there = sockets.values()
        here.send('"hello"')
        assert json.loads(there.recv(timeout=5)) == {"said": "hello"}
        there.send('"and back"')
        heard = [json.loads(here.recv(timeout=5)) for _ in range(2)]
        assert heard == [{"said": "hello"}, {"said": "and back"}]
