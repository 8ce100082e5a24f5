"""The wire to the server: coalescing, and what a caller sees when the server is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from fastapi_prodkit import ConfigurationError, RedisBackend, UnavailableError
from tests.servers import RedisServer


async def _until_back(backend: RedisBackend) -> float:
    started = time.monotonic()
    while True:
        try:
            await backend.store.get("x")
        except UnavailableError:
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - started


async def test_a_thousand_concurrent_calls_share_two_connections(redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "RESETSTAT")
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        await asyncio.gather(*(backend.store.set(f"k{i}", b"v", ttl=60) for i in range(1000)))
        values = await asyncio.gather(*(backend.store.get(f"k{i}") for i in range(1000)))
    assert values == [[b"v"]] * 1000
    stats = redis_server.command("INFO", "stats")
    received = int(stats.split("total_connections_received:")[1].split("\r")[0])
    assert received <= 2 + 2  # ours, and the two of this test's own commands


async def test_a_use_before_entering_names_the_mend() -> None:
    backend = RedisBackend("redis://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="Resources"):
        await backend.store.get("x")


async def test_a_server_that_is_absent_at_start_is_found_when_it_comes(fault_server: RedisServer) -> None:
    fault_server.kill()
    async with RedisBackend(fault_server.url) as backend:
        with pytest.raises(UnavailableError):
            await backend.store.get("x")
        fault_server.start()
        assert await _until_back(backend) < 2


async def test_a_killed_server_fails_calls_at_once_and_is_found_again(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url) as backend:
        await backend.store.set("x", b"1", ttl=60)
        fault_server.kill()
        started = time.monotonic()
        for _ in range(50):
            with pytest.raises(UnavailableError):
                await backend.store.get("x")
        assert time.monotonic() - started < 1
        fault_server.start()
        assert await _until_back(backend) < 2


async def test_a_hung_server_costs_its_timeout_once(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url, timeout=0.1) as backend:
        await backend.store.set("x", b"1", ttl=60)
        fault_server.hang()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(backend.store.get("x") for _ in range(100)), return_exceptions=True)
        assert all(isinstance(each, UnavailableError) for each in outcomes)
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await backend.store.get("x")
        assert time.monotonic() - started < 0.5
        fault_server.resume()
        assert await _until_back(backend) < 2
        assert await backend.store.get("x") == [b"1"]


async def test_a_stall_of_our_own_loop_is_not_held_against_the_server(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, timeout=0.5) as backend:
        reading = asyncio.create_task(backend.store.get("x"))
        await asyncio.sleep(0)  # it is sent, and nothing was read yet
        time.sleep(0.8)
        assert await reading == [None]
        assert await backend.store.get("x") == [None]


async def test_a_reply_that_is_here_when_the_time_is_up_is_read(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, timeout=0.1) as backend:
        for _ in range(5):
            reading = asyncio.create_task(backend.store.get("x"))
            await asyncio.sleep(0)  # it is sent, and nothing was read yet
            time.sleep(0.105)  # shorter than what counts as a stall
            assert await reading == [None]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_who_calls_while_a_connection_is_being_lost_is_told_that_there_is_none(
    redis_server: RedisServer, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def lose() -> None:
        for turns in range(8):  # of the loop, until it is lost for everybody
            async with RedisBackend(redis_server.url, timeout=5) as backend:
                backend._wire._writer.transport.abort()  # type: ignore[attr-defined] # of the link
                for _ in range(turns):
                    await asyncio.sleep(0)
                for _ in range(3):
                    with pytest.raises(UnavailableError):
                        await backend.store.get("x")

    run(lose())


async def test_a_server_that_works_its_way_through_a_burst_is_not_away(redis_server: RedisServer) -> None:
    busy = "local began = os.clock() while os.clock() - began < 0.05 do end return #ARGV[1]"
    apart = "x" * 40_000  # the server answers once for what it reads at once
    async with RedisBackend(redis_server.url, timeout=0.5) as backend:
        calls = (backend._wire.call("EVAL", busy, 0, apart) for _ in range(15))
        assert await asyncio.gather(*calls) == [40_000] * 15


async def test_a_cancelled_caller_does_not_disturb_the_others(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        await backend.store.set("x", b"1", ttl=60)
        tasks = [asyncio.create_task(backend.store.get("x")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        assert await asyncio.gather(*tasks[1::2]) == [[b"1"]] * 10


async def test_one_backend_serves_one_event_loop_after_another(redis_url: str) -> None:
    backend = RedisBackend(redis_url, timeout=5)

    async def use() -> list[bytes | None]:
        async with backend:
            await backend.store.set("x", b"1", ttl=60)
            return await backend.store.get("x")

    for _ in range(2):
        assert await asyncio.to_thread(asyncio.run, use()) == [b"1"]


async def test_two_apps_may_enter_one_backend(redis_url: str) -> None:
    backend = RedisBackend(redis_url, timeout=5)
    async with backend:
        async with backend as again:
            await again.store.set("x", b"1", ttl=60)
        assert await backend.store.get("x") == [b"1"]
    with pytest.raises(ConfigurationError):
        await backend.store.get("x")


async def test_a_hung_server_delays_the_start_by_about_two_seconds(fault_server: RedisServer) -> None:
    fault_server.hang()
    started = time.monotonic()
    async with RedisBackend(fault_server.url) as backend:
        assert time.monotonic() - started < 4
        fault_server.resume()
        assert await _until_back(backend) < 2


async def test_a_server_that_goes_while_we_close_does_not_hold_us_up(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url) as backend, backend.bus.subscribe("room"):
        fault_server.kill()
        with pytest.raises(UnavailableError):
            await backend.store.get("x")
        started = time.monotonic()
    assert time.monotonic() - started < 1


async def test_thousands_of_messages_without_a_reply_between_are_all_heard(redis_url: str) -> None:
    async with (
        RedisBackend(redis_url, timeout=5, max_pending=10_000) as backend,
        backend.bus.subscribe("room") as messages,
    ):
        await asyncio.gather(*(backend.bus.publish("room", b"x") for _ in range(5000)))
        async with asyncio.timeout(10):
            assert [await anext(messages) for _ in range(5000)] == [b"x"] * 5000


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_a_start_that_is_given_up_leaves_nothing_behind(fault_server: RedisServer, scheme: str) -> None:
    fault_server.hang()
    backend = RedisBackend(f"{scheme}://127.0.0.1:{fault_server.port}")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await backend.__aenter__()
    fault_server.resume()
    assert {task.get_name() for task in asyncio.all_tasks() if "prodkit" in task.get_name()} == set()
