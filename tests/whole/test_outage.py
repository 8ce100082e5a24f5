"""The server behind everything is killed, hangs and comes back, under load, with every component on."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import redis
from websockets.asyncio.client import ClientConnection, connect

from tests.servers import RedisServer, Uvicorn
from tests.whole.everything import auth

TOKEN = {"Authorization": f"Bearer {auth.issue('ada', ttl=600)}"}
PATHS = ["/v1/often", "/v1/items/1", "/v1/items/2", "/v1/me", "/v1/limited", "/health/ready"]
TIMEOUT = 0.1  # seconds, the default of RedisBackend
SLACK = 1.0  # seconds that a busy machine may be late


class Load:
    """Four clients that never rest."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._run(number)) for number in range(4)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, number: int) -> None:
        while True:
            path = PATHS[number % len(PATHS)]
            number += 1
            begun = time.monotonic()
            answer = await self._client.get(path, headers=TOKEN)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.statuses[answer.status_code] += 1

    async def some(self, requests: int = 60) -> None:
        before = self.statuses.total()
        while self.statuses.total() < before + requests:
            await asyncio.sleep(0.01)


async def _crosses(here: ClientConnection, there: ClientConnection, text: str) -> None:
    """What is said in one process arrives in the other."""
    await here.send(json.dumps(text))
    async with asyncio.timeout(5):
        while json.loads(await there.recv()) != {"said": text}:
            pass


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_no_request_fails_and_everything_is_back_within_two_seconds(
    fault_server: RedisServer, fault: str
) -> None:
    target, environment = "tests.whole.everything:create_app", {"REDIS_URL": fault_server.url}
    with (
        Uvicorn(target, arguments=["--factory"], environment=environment) as one,
        Uvicorn(target, arguments=["--factory"], environment=environment) as two,
    ):
        rooms = [server.url.replace("http", "ws") + "/v1/rooms/a" for server in (one, two)]
        async with (
            httpx2.AsyncClient(base_url=one.url, verify=False, timeout=10) as client,
            connect(rooms[0], additional_headers=TOKEN) as here,
            connect(rooms[1], additional_headers=TOKEN) as there,
        ):
            await _crosses(here, there, "before")
            load = Load(client)
            async with load.on():
                await load.some()
                if fault == "killed":
                    fault_server.kill()
                else:
                    fault_server.hang()
                await load.some(200)
                await here.send(json.dumps("only here"))  # those in the same process still hear it
                async with asyncio.timeout(5):
                    while json.loads(await here.recv()) != {"said": "only here"}:
                        pass
                if fault == "killed":
                    fault_server.start()
                else:
                    fault_server.resume()
                await asyncio.sleep(2)
                await _crosses(here, there, "after")
                shared = (await client.get("/v1/items/77")).json()
                async with httpx2.AsyncClient(base_url=two.url, verify=False) as other:
                    assert (await other.get("/v1/items/77")).json() == shared
                    limits = [
                        (await each.get("/v1/limited")).headers["ratelimit"] for each in (client, other)
                    ]
                await load.some()
            assert set(load.statuses) <= {200, 429}
            assert load.slowest < 3 * TIMEOUT + SLACK
            assert "r=0" in limits[0]  # 50 an hour were spent long ago, the outage forgave nobody
            assert "r=0" in limits[1]
    assert "Traceback" not in one.output + two.output


async def test_an_app_starts_without_its_server_and_takes_it_up_when_it_comes() -> None:
    place = RedisServer()
    with_password = place.url.replace("redis://", "redis://:canary-of-a-password@")
    with Uvicorn(
        "tests.whole.everything:create_app", arguments=["--factory"], environment={"REDIS_URL": with_password}
    ) as server:
        async with httpx2.AsyncClient(base_url=server.url, verify=False, timeout=10) as client:
            for path in PATHS:
                assert (await client.get(path, headers=TOKEN)).status_code == 200
            place.start()
            place.command("CONFIG", "SET", "requirepass", "canary-of-a-password")
            await asyncio.sleep(2)
            assert (await client.get("/v1/items/5")).status_code == 200
            assert (await client.get("/v1/limited")).status_code == 200
        keys = redis.Redis(port=place.port, password="canary-of-a-password")
        kept: Any = keys.keys("prodkit:*")
        assert len(kept) >= 2
        keys.close()
        assert server.stop() in (0, -signal.SIGTERM)
    place.close()
    assert "canary" not in server.output
