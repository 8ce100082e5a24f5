"""A cluster: the contracts, keys on several primaries, slots and primaries that move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.crc import key_slot

from fastapi_prodkit import RedisBackend, UnavailableError
from fastapi_prodkit.testing import BusContract, StoreContract
from fastapi_prodkit.typing import Bus, Store
from tests.servers import RedisCluster, RedisServer, free_port

from .outage import calling, until_served


@pytest.fixture
def fault_cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster(replica=True)
    yield cluster
    cluster.close()


class TestClusterStore(StoreContract):
    @pytest.fixture
    async def store(self, redis_cluster: RedisCluster) -> AsyncIterator[Store]:
        async with RedisBackend(redis_cluster.url, timeout=5) as backend:
            yield backend.store


class TestClusterBus(BusContract):
    @pytest.fixture
    async def bus(self, redis_cluster: RedisCluster) -> AsyncIterator[Bus]:
        async with RedisBackend(redis_cluster.url, timeout=5) as backend:
            yield backend.bus


def _keys_of(cluster: RedisCluster, count: int = 5) -> list[list[str]]:
    """Keys that live on each primary."""
    found: list[list[str]] = [[], [], []]
    number = 0
    while any(len(keys) < count for keys in found):
        key = f"key{number}"
        found[min(2, key_slot(f"prodkit:{key}".encode()) // 5461)].append(key)
        number += 1
    return [keys[:count] for keys in found]


def _connections(server: RedisServer) -> int:
    return int(server.command("INFO", "clients").split("connected_clients:")[1].split("\r")[0])


async def test_keys_live_on_every_primary_and_are_read_at_once(redis_cluster: RedisCluster) -> None:
    keys = [f"k{number}" for number in range(300)]
    async with RedisBackend(redis_cluster.url, timeout=5) as backend:
        await asyncio.gather(*(backend.store.set(key, key.encode(), ttl=60) for key in keys))
        assert await backend.store.get(*keys) == [key.encode() for key in keys]
        sizes = [server.command("DBSIZE") for server in redis_cluster.primaries]
        assert all(int(size[1:]) > 50 for size in sizes)
        await backend.store.delete(*keys)
        assert [server.command("DBSIZE") for server in redis_cluster.primaries] == [":0\r\n"] * 3


async def test_a_burst_shares_one_connection_to_each_primary(redis_cluster: RedisCluster) -> None:
    before = [_connections(server) for server in redis_cluster.primaries]
    async with RedisBackend(redis_cluster.url, timeout=5) as backend:
        await asyncio.gather(*(backend.store.get(f"k{number}") for number in range(1000)))
        during = [_connections(server) for server in redis_cluster.primaries]
    assert [after - one for after, one in zip(during, before, strict=True)] in (
        [2, 1, 1],
        [1, 2, 1],
        [1, 1, 2],
    )


async def test_any_of_the_hosts_in_the_url_will_do(redis_cluster: RedisCluster) -> None:
    alive = redis_cluster.primaries[1].port
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{alive}"
    async with RedisBackend(url, timeout=5) as backend:
        for keys in _keys_of(redis_cluster):
            await backend.store.set(keys[0], b"1", ttl=60)
        async with backend.bus.subscribe("room") as messages:
            await backend.bus.publish("room", b"hello")
            assert await anext(messages) == b"hello"


async def test_keys_are_followed_while_their_slot_moves_and_after(redis_cluster: RedisCluster) -> None:
    here, there, _ = redis_cluster.primaries
    key = _keys_of(redis_cluster)[0][0]
    slot = str(key_slot(f"prodkit:{key}".encode()))

    def begin(source: RedisServer, target: RedisServer) -> None:
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", redis_cluster.identity(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", redis_cluster.identity(target))

    def end(source: RedisServer, target: RedisServer) -> None:
        for server in (target, source):
            owner = redis_cluster.identity(target)
            assert server.command("CLUSTER", "SETSLOT", slot, "NODE", owner) == "+OK\r\n"
        redis_cluster.settle()

    async with RedisBackend(redis_cluster.url, timeout=5) as backend:
        begin(here, there)
        await backend.store.set(key, b"moving", ttl=60)  # ASK
        assert await backend.store.get(key, "another") == [b"moving", None]
        end(here, there)
        assert await until_served(lambda: backend.store.get(key)) < 5  # MOVED
        assert await backend.store.get(key) == [b"moving"]
        await backend.store.delete(key)
        begin(there, here)
        end(there, here)
        assert await until_served(lambda: backend.store.set(key, b"back", ttl=60)) < 5
        assert await backend.store.get(key) == [b"back"]


async def test_one_node_of_a_cluster_taken_for_a_server_says_how_to_name_it(
    redis_cluster: RedisCluster,
) -> None:
    async with RedisBackend(redis_cluster.primaries[0].url, timeout=5) as backend:
        elsewhere = _keys_of(redis_cluster)[1][0]
        with pytest.raises(UnavailableError, match=r"redis\+cluster://"):
            await backend.store.set(elsewhere, b"1", ttl=60)


async def test_a_killed_primary_concerns_its_own_keys_until_its_replica_takes_over(
    fault_cluster: RedisCluster,
) -> None:
    lost, kept, _ = _keys_of(fault_cluster)
    async with (
        RedisBackend(fault_cluster.url, timeout=0.2) as backend,
        backend.bus.subscribe("orders") as messages,
        calling(lambda: backend.store.set(lost[0], b"1", ttl=60)) as mine,
        calling(lambda: backend.store.set(kept[0], b"1", ttl=60)) as others,
    ):
        fault_cluster.primaries[0].kill()  # also the one that is listened to: it is the first in the URL
        while not mine.refused:
            await asyncio.sleep(0.01)
        assert await until_served(lambda: backend.store.set(lost[1], b"2", ttl=60)) < 10
        assert (mine.surprises, others.surprises, others.refused) == ([], [], 0)
        assert await backend.store.get(lost[1], kept[0]) == [b"2", b"1"]
        async with asyncio.timeout(10):
            assert await anext(messages) is None
            async with calling(lambda: backend.bus.publish("orders", b"new")) as published:
                while await anext(messages) != b"new":
                    pass
        assert published.surprises == []


async def test_a_cluster_that_is_absent_at_start_is_found_when_it_comes() -> None:
    port = free_port()
    async with RedisBackend(f"redis+cluster://127.0.0.1:{port}") as backend:
        with pytest.raises(UnavailableError):
            await backend.store.get("key")
        server = RedisServer(arguments=["--cluster-enabled", "yes", "--cluster-port", str(free_port())])
        server.port = port
        try:
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.command, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            assert await until_served(lambda: backend.store.set("key", b"1", ttl=60)) < 10
        finally:
            server.close()
