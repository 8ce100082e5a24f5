"""A primary behind Sentinel: the contracts, and a primary that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_prodkit import ConfigurationError, RedisBackend, UnavailableError
from fastapi_prodkit.testing import BusContract, StoreContract
from fastapi_prodkit.typing import Bus, Store
from tests.servers import RedisSentinel, free_port

from .outage import calling, until_served


class TestSentinelStore(StoreContract):
    @pytest.fixture
    async def store(self, redis_sentinel: RedisSentinel) -> AsyncIterator[Store]:
        async with RedisBackend(redis_sentinel.url, timeout=5) as backend:
            yield backend.store


class TestSentinelBus(BusContract):
    @pytest.fixture
    async def bus(self, redis_sentinel: RedisSentinel) -> AsyncIterator[Bus]:
        async with RedisBackend(redis_sentinel.url, timeout=5) as backend:
            yield backend.bus


async def test_a_killed_primary_costs_a_pause_and_no_surprise(fault_sentinel: RedisSentinel) -> None:
    async with RedisBackend(fault_sentinel.url, timeout=0.2) as backend:
        await backend.store.set("before", b"1", ttl=60)
        async with calling(lambda: backend.store.set("key", b"1", ttl=60)) as calls:
            fault_sentinel.primary.kill()
            while not calls.refused:
                await asyncio.sleep(0.01)
            assert await until_served(lambda: backend.store.set("after", b"2", ttl=60)) < 10
        assert await backend.store.get("after") == [b"2"]
    assert calls.surprises == []


async def test_a_listener_hears_again_after_the_primary_changed(fault_sentinel: RedisSentinel) -> None:
    async with (
        RedisBackend(fault_sentinel.url, timeout=0.2) as backend,
        backend.bus.subscribe("orders") as messages,
    ):
        fault_sentinel.primary.kill()
        async with asyncio.timeout(10):
            assert await anext(messages) is None
            async with calling(lambda: backend.bus.publish("orders", b"new")) as calls:
                while await anext(messages) != b"new":
                    pass
    assert calls.surprises == []


async def test_a_primary_that_was_demoted_is_left_for_the_new_one(fault_sentinel: RedisSentinel) -> None:
    old, new = fault_sentinel.primary, fault_sentinel.replica
    async with RedisBackend(fault_sentinel.url, timeout=0.5) as backend:
        async with calling(lambda: backend.store.set("key", b"1", ttl=60)) as calls:
            fault_sentinel.fail_over()
            while not fault_sentinel.has_failed_over():
                await asyncio.sleep(0.02)
            old.command("REPLICAOF", "127.0.0.1", str(new.port))  # as the sentinel does somewhat later
            while not calls.refused:
                await asyncio.sleep(0.01)
            await until_served(lambda: backend.store.set("after", b"2", ttl=60))
        assert calls.surprises == []
    assert new.command("GET", "prodkit:after") == "$1\r\n2\r\n"


async def test_a_sentinel_that_is_gone_is_passed_over(redis_sentinel: RedisSentinel) -> None:
    alive = f"127.0.0.1:{redis_sentinel.sentinel.port}"
    url = f"redis+sentinel://127.0.0.1:{free_port()},{alive}/{redis_sentinel.service}/0"
    async with RedisBackend(url) as backend:
        await backend.store.set("key", b"1", ttl=60)
        assert await backend.store.get("key") == [b"1"]


async def test_a_service_that_no_sentinel_knows_is_named_in_the_log(
    redis_sentinel: RedisSentinel, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisBackend(redis_sentinel.url.replace("/shop/", "/shoop/")) as backend:
        with pytest.raises(UnavailableError):
            await backend.store.get("key")
    assert "'shoop'" in caplog.text


def test_a_sentinel_url_without_a_service_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="service"):
        RedisBackend("redis+sentinel://127.0.0.1:26379")
