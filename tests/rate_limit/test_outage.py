"""The server is killed, hung and restarted while requests come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import Depends, FastAPI

from fastapi_prodkit import RateLimiter, RateLimitMiddleware, RedisBackend
from tests.servers import RedisServer

from .conftest import Open


@pytest.fixture
async def backend(fault_server: RedisServer) -> AsyncIterator[RedisBackend]:
    async with RedisBackend(fault_server.url, timeout=0.1) as backend:
        yield backend


def _app(limiter: RateLimiter, limit: str = "10/hour") -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter(limit))])(lambda: "ok")
    return app


async def _statuses(client: httpx2.AsyncClient, count: int) -> list[int]:
    return [(await client.get("/")).status_code for _ in range(count)]


async def _until_shared(backend: RedisBackend) -> float:
    started = time.monotonic()
    while not backend.counters._wire.is_up:  # type: ignore[attr-defined] # of the link
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_a_killed_server_costs_no_5xx_and_a_local_limit_takes_over(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    client = await client_of(_app(RateLimiter(backend.counters)))
    assert await _statuses(client, 3) == [200] * 3
    fault_server.kill()
    statuses = await _statuses(client, 15)
    assert statuses == [200] * 10 + [429] * 5


async def test_an_outage_is_no_free_budget(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    client = await client_of(_app(RateLimiter(backend.counters)))
    fault_server.kill()
    assert await _statuses(client, 7) == [200] * 7
    fault_server.start()
    assert await _until_shared(backend) < 2
    answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
    assert sum(each.status_code == 200 for each in answers) == 3
    assert {each.status_code for each in answers} == {200, 429}


async def test_what_others_spent_meanwhile_is_carried_over_too(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    app = _app(RateLimiter(backend.counters))
    clients = [await client_of(app, address=f"10.0.0.{number}") for number in range(5)]
    fault_server.kill()
    for client in clients:
        assert await _statuses(client, 10) == [200] * 10
    fault_server.start()
    await _until_shared(backend)
    await clients[0].get("/")
    async with asyncio.timeout(2):
        while fault_server.command("DBSIZE") != ":5\r\n":
            await asyncio.sleep(0.01)
    async with RedisBackend(fault_server.url, timeout=5) as other_worker:
        other = await client_of(_app(RateLimiter(other_worker.counters)), address="10.0.0.4")
        assert (await other.get("/")).status_code == 429


async def test_a_hung_server_costs_its_timeout_once(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    client = await client_of(_app(RateLimiter(backend.counters), "1000/hour"))
    await client.get("/")
    fault_server.hang()
    started = time.monotonic()
    statuses = await _statuses(client, 30)
    took = time.monotonic() - started
    fault_server.resume()
    assert statuses == [200] * 30
    assert took < 1.0


async def test_an_outage_may_deny_instead(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    client = await client_of(_app(RateLimiter(backend.counters, on_outage="deny")))
    fault_server.kill()
    answer = await client.get("/")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    fault_server.start()
    await _until_shared(backend)
    assert (await client.get("/")).status_code == 200


async def test_a_flushed_script_cache_is_filled_again(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    client = await client_of(_app(RateLimiter(backend.counters)))
    for _ in range(3):
        fault_server.command("SCRIPT", "FLUSH")
        answers = await asyncio.gather(*(client.get("/") for _ in range(3)))
        assert {each.status_code for each in answers} == {200}
    assert await _statuses(client, 2) == [200, 429]


async def test_a_server_that_is_restarted_without_its_data_counts_on(
    backend: RedisBackend, fault_server: RedisServer, client_of: Open
) -> None:
    app = _app(RateLimiter(backend.counters))
    client = await client_of(app)
    assert await _statuses(client, 12) == [200] * 10 + [429] * 2
    fault_server.restart()
    await _until_shared(backend)
    other = await client_of(app, address="10.0.0.9")
    assert await _statuses(other, 12) == [200] * 10 + [429] * 2
