from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import fastapi  # noqa: F401 -- it reads files when it is imported, which no test may do in a loop
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from fastapi_prodkit import MemoryBackend, RedisBackend
from fastapi_prodkit.typing import Backend

from .servers import RedisCluster, RedisSentinel, RedisServer, redis_binaries

settings.register_profile("prodkit", deadline=None)  # a shared machine is slow at times; the timeout holds
settings.load_profile("prodkit")


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A call of ours that would block the event loop fails the test."""
    with blockbuster_ctx("fastapi_prodkit", excluded_modules=["fastapi_prodkit.testing"]) as blockbuster:
        for function in blockbuster.functions.values():  # a name of the lazy root may be first used in a loop
            function.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
        yield


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[dict[str, RedisServer]]:
    """Started when first asked for, one of each kind per test process."""
    servers: dict[str, RedisServer] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def redis_server(redis_servers: dict[str, RedisServer]) -> RedisServer:
    """A shared, empty server. A test that kills or hangs one takes `fault_server`."""
    return _emptied(redis_servers, "valkey")


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


_OWN_URL = os.environ.get("PRODKIT_TEST_REDIS_URL")


@pytest.fixture(params=[*redis_binaries(), *([_OWN_URL] if _OWN_URL else [])])
def every_redis_url(request: pytest.FixtureRequest, redis_servers: dict[str, RedisServer]) -> str:
    """Each kind of server that is here, and the one that PRODKIT_TEST_REDIS_URL names."""
    url: str = request.param
    return _emptied(redis_servers, url).url if url in redis_binaries() else url


@pytest.fixture
def fault_server() -> Iterator[RedisServer]:
    """A server of this test alone, to be killed, hung and restarted."""
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def redis_cluster(_cluster: RedisCluster) -> RedisCluster:
    """A shared, empty cluster of three primaries."""
    _cluster.empty()
    return _cluster


@pytest.fixture(scope="session")
def _sentinel() -> Iterator[RedisSentinel]:
    sentinel = RedisSentinel()
    yield sentinel
    sentinel.close()


@pytest.fixture
def redis_sentinel(_sentinel: RedisSentinel) -> RedisSentinel:
    """A shared, empty primary with its replica and sentinel. A test that swaps them takes its own."""
    _sentinel.primary.command("FLUSHALL")
    return _sentinel


@pytest.fixture
def fault_sentinel() -> Iterator[RedisSentinel]:
    """A primary, a replica and a sentinel of this test alone."""
    sentinel = RedisSentinel()
    yield sentinel
    sentinel.close()


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """An open backend of each kind."""
    opened: Backend
    if request.param == "memory":
        opened = MemoryBackend()
    else:
        opened = RedisBackend(request.getfixturevalue("redis_url"), timeout=10.0)
    async with opened:
        yield opened


def _emptied(servers: dict[str, RedisServer], name: str) -> RedisServer:
    if name not in servers:
        servers[name] = RedisServer(redis_binaries()[name]).start()
    servers[name].command("FLUSHALL")
    servers[name].command("SCRIPT", "FLUSH")
    return servers[name]
