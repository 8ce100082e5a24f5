"""The level in this process: what it saves, how soon it learns, and what it does when it cannot."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Self

import pytest

from fastapi_prodkit import ConfigurationError, MemoryBackend, RedisBackend, TieredBackend, UnavailableError
from fastapi_prodkit.backends.memory import MemoryStore
from fastapi_prodkit.backends.tiered import TieredStore
from fastapi_prodkit.testing import BusContract, StoreContract
from fastapi_prodkit.typing import Bus, Store
from tests.servers import RedisCluster, RedisServer

from .outage import until_served


class TestTieredStore(StoreContract):
    @pytest.fixture
    async def store(self, every_redis_url: str) -> AsyncIterator[Store]:
        async with TieredBackend(RedisBackend(every_redis_url, timeout=5)) as backend:
            yield backend.store


class TestTieredStoreOnCluster(StoreContract):
    @pytest.fixture
    async def store(self, redis_cluster: RedisCluster) -> AsyncIterator[Store]:
        async with TieredBackend(RedisBackend(redis_cluster.url, timeout=5)) as backend:
            yield backend.store


class TestTieredBus(BusContract):
    @pytest.fixture
    async def bus(self, redis_url: str) -> AsyncIterator[Bus]:
        async with TieredBackend(RedisBackend(redis_url, timeout=5)) as backend:
            yield backend.bus


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _reads(server: RedisServer) -> int:
    """How many GET commands the server has answered."""
    stats = server.command("INFO", "commandstats")
    return int(stats.split("cmdstat_get:calls=")[1].split(",")[0]) if "cmdstat_get:" in stats else 0


async def _until(store: Store, key: str, value: bytes | None) -> float:
    """Seconds until the store says so."""
    started = time.perf_counter()
    async with asyncio.timeout(5):
        while await store.get(key) != [value]:
            await asyncio.sleep(0.001)
    return time.perf_counter() - started


async def test_what_was_read_once_is_read_again_without_a_command(redis_server: RedisServer) -> None:
    async with (
        RedisBackend(redis_server.url, timeout=5) as elsewhere,
        TieredBackend(RedisBackend(redis_server.url, timeout=5)) as backend,
    ):
        await elsewhere.store.set("entry", b"1", ttl=60)
        await backend.store.get("entry", "stamp")
        before = _reads(redis_server)
        for _ in range(100):
            assert await backend.store.get("entry", "stamp", "entry") == [b"1", None, b"1"]
        assert _reads(redis_server) == before
        assert await backend.store.get("entry", "another") == [b"1", None]
        assert _reads(redis_server) == before + 1


class _Far(MemoryStore):
    """What lies behind a level, with its reports in the test's own hands."""

    def __init__(self, changed: Callable[[Iterable[str]], None], lost: Callable[[], None]) -> None:
        super().__init__()
        self.changed = changed
        self.lost = lost
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, *keys: str) -> list[tuple[bytes | None, float]]:
        if self.is_away:
            raise UnavailableError("away")
        found = await self.get(*keys)
        await self.answers.wait()
        return [(value, math.inf) for value in found]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None


def _level() -> tuple[TieredStore, _Far]:
    made: list[_Far] = []

    def track(changed: Callable[[Iterable[str]], None], lost: Callable[[], None]) -> _Far:
        made.append(_Far(changed, lost))
        return made[0]

    return TieredStore(track, max_bytes=100_000, recheck=60, when_away=60), made[0]


@pytest.mark.parametrize("report", ["changed", "lost"])
async def test_what_was_read_before_a_report_is_not_kept_after_it(report: str) -> None:
    store, far = _level()
    await far.set("key", b"old", ttl=60)
    far.answers.clear()
    reading = asyncio.create_task(store.get("key"))
    await asyncio.sleep(0)
    await far.set("key", b"new", ttl=60)
    far.changed(["key"]) if report == "changed" else far.lost()
    far.answers.set()
    assert await reading == [b"old"]  # it began before the change
    assert await store.get("key") == [b"new"]


async def test_what_was_known_before_an_earlier_outage_does_not_serve_in_a_later_one() -> None:
    store, far = _level()
    await far.set("key", b"old", ttl=60)
    await store.get("key")
    far.lost()
    far.lost()  # in between it was back, and reported what changed of other keys
    far.is_away = True
    with pytest.raises(UnavailableError):
        await store.get("key")


async def test_a_write_elsewhere_is_seen_within_50_ms(redis_url: str) -> None:
    async with (
        RedisBackend(redis_url, timeout=5) as elsewhere,
        TieredBackend(RedisBackend(redis_url, timeout=5)) as backend,
    ):
        took = []
        for number in range(20):
            value = str(number).encode()
            await elsewhere.store.set("key", value, ttl=60)
            took.append(await _until(backend.store, "key", value))
            await elsewhere.store.delete("key")
            took.append(await _until(backend.store, "key", None))
            await elsewhere.store.add("key", b"lease", ttl=60)
            took.append(await _until(backend.store, "key", b"lease"))
    assert statistics.median(took) < 0.05


async def test_one_reads_what_one_wrote(redis_url: str) -> None:
    async with TieredBackend(RedisBackend(redis_url, timeout=5)) as backend:

        async def write_and_read(key: str) -> None:
            for number in range(30):
                value = str(number).encode()
                await backend.store.set(key, value, ttl=60)
                assert await backend.store.get(key) == [value]
            await backend.store.delete(key)
            assert await backend.store.get(key) == [None]

        await asyncio.gather(*(write_and_read(f"key{number}") for number in range(20)))


async def test_reads_that_race_with_writes_elsewhere_never_leave_an_old_value_behind(
    redis_server: RedisServer,
) -> None:
    keys = [f"key{number}" for number in range(5)]
    chance = random.Random(1)
    async with (
        RedisBackend(redis_server.url, timeout=5) as elsewhere,
        TieredBackend(RedisBackend(redis_server.url, timeout=5)) as backend,
    ):
        running = True

        async def read() -> None:
            while running:
                await backend.store.get(*chance.sample(keys, 2))
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(8)]
        for number in range(300):
            await elsewhere.store.set(chance.choice(keys), str(number).encode(), ttl=60)
            if number % 50 == 49:
                redis_server.command("FLUSHALL")
        await asyncio.sleep(0.1)  # the promise is 50 ms; no event says that a report is not coming
        assert await backend.store.get(*keys) == await elsewhere.store.get(*keys)
        running = False
        await asyncio.gather(*readers)


async def test_an_entry_lives_no_longer_than_on_the_server(redis_server: RedisServer) -> None:
    clock = _Clock()
    tiered = TieredBackend(RedisBackend(redis_server.url, timeout=5), recheck=1e9, clock=clock)
    async with tiered as backend:
        await backend.store.set("key", b"1", ttl=30)
        assert await backend.store.get("key") == [b"1"]
        clock.now += 29
        before = _reads(redis_server)
        assert await backend.store.get("key") == [b"1"]
        assert _reads(redis_server) == before
        clock.now += 1.1
        await backend.store.get("key")
        assert _reads(redis_server) == before + 1


async def test_an_entry_is_asked_for_again_after_recheck(redis_server: RedisServer) -> None:
    clock = _Clock()
    tiered = TieredBackend(RedisBackend(redis_server.url, timeout=5), recheck=10, clock=clock)
    async with tiered as backend:
        await backend.store.set("key", b"1", ttl=3600)
        await backend.store.get("key")
        before = _reads(redis_server)
        clock.now += 11
        await backend.store.get("key")
        assert _reads(redis_server) == before + 1


async def test_a_flush_is_seen(redis_server: RedisServer) -> None:
    async with TieredBackend(RedisBackend(redis_server.url, timeout=5)) as backend:
        await backend.store.set("key", b"1", ttl=60)
        assert await backend.store.get("key") == [b"1"]
        redis_server.command("FLUSHALL")
        assert await _until(backend.store, "key", None) < 1


async def test_what_changed_while_the_connection_was_down_is_not_served_after(
    fault_server: RedisServer,
) -> None:
    async with TieredBackend(RedisBackend(fault_server.url, timeout=5), when_away=0) as backend:
        for number in range(5):
            await backend.store.set("key", b"old", ttl=60)
            assert await backend.store.get("key") == [b"old"]
            fault_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            fault_server.command("SET", "prodkit:key", str(number))
            await until_served(lambda: backend.store.set("other", b"1", ttl=60))
            assert await backend.store.get("key") == [str(number).encode()]


async def test_while_the_server_is_away_warm_entries_serve_for_as_long_as_allowed(
    fault_server: RedisServer,
) -> None:
    clock = _Clock()
    inner = RedisBackend(fault_server.url, timeout=0.2)
    async with TieredBackend(inner, when_away=20, clock=clock) as backend:
        await backend.store.set("short", b"1", ttl=10)
        await backend.store.set("long", b"2", ttl=3600)
        assert await backend.store.get("short", "long", "stamp") == [b"1", b"2", None]
        fault_server.kill()
        with pytest.raises(UnavailableError):
            await backend.store.get("never seen")
        assert await backend.store.get("short", "long", "stamp") == [b"1", b"2", None]
        clock.now += 11
        assert await backend.store.get("long", "stamp") == [b"2", None]
        with pytest.raises(UnavailableError):
            await backend.store.get("short")
        with pytest.raises(UnavailableError):
            await backend.store.delete("long")
        with pytest.raises(UnavailableError):
            await backend.store.get("long")  # what was to be deleted does not serve here either
        assert await backend.store.get("stamp") == [None]
        clock.now += 10
        with pytest.raises(UnavailableError):
            await backend.store.get("stamp")


@pytest.mark.parametrize(("when_away", "later", "serves"), [(0.0, 0.0, False), (math.inf, 3000.0, True)])
async def test_serving_while_away_can_be_refused_or_unlimited(
    fault_server: RedisServer, when_away: float, later: float, serves: bool
) -> None:
    clock = _Clock()
    inner = RedisBackend(fault_server.url, timeout=0.2)
    async with TieredBackend(inner, when_away=when_away, clock=clock) as backend:
        await backend.store.set("key", b"1", ttl=3600)
        assert await backend.store.get("key") == [b"1"]
        fault_server.kill()
        with pytest.raises(UnavailableError):
            await backend.store.get("never seen")
        clock.now += later
        if serves:
            assert await backend.store.get("key") == [b"1"]
        else:
            with pytest.raises(UnavailableError):
                await backend.store.get("key")


async def test_a_frozen_server_is_noticed_without_a_call(fault_server: RedisServer) -> None:
    inner = RedisBackend(fault_server.url, timeout=0.1)
    async with TieredBackend(inner, when_away=0, heartbeat=0.05) as backend:
        await backend.store.set("key", b"1", ttl=60)
        await backend.store.get("key")
        fault_server.hang()
        with pytest.raises(UnavailableError):
            await _until(backend.store, "key", b"never")
        fault_server.resume()
        await until_served(lambda: backend.store.get("key"))


async def test_the_level_stays_within_its_bytes(redis_url: str) -> None:
    async with TieredBackend(RedisBackend(redis_url, timeout=5), max_bytes=100_000) as backend:
        for number in range(200):
            await backend.store.set(f"key{number}", b"x" * 2000, ttl=60)
        for number in range(200):
            assert await backend.store.get(f"key{number}") == [b"x" * 2000]
        await backend.store.set("large", b"x" * 200_000, ttl=60)
        assert len((await backend.store.get("large"))[0] or b"") == 200_000
        held = sum(len(entry.value or b"") for entry in backend.store._entries.values())
    assert 50_000 < held <= 100_000


async def test_one_object_serves_one_event_loop_after_another(redis_url: str) -> None:
    backend = TieredBackend(RedisBackend(redis_url, timeout=5))

    async def use(value: bytes) -> list[bytes | None]:
        async with backend:
            before = await backend.store.get("key")
            await backend.store.set("key", value, ttl=60)
            await backend.store.get("key")
            return before

    assert await asyncio.to_thread(asyncio.run, use(b"1")) == [None]
    assert await asyncio.to_thread(asyncio.run, use(b"2")) == [b"1"]


def test_a_backend_that_does_not_report_changes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="RedisBackend"):
        TieredBackend(MemoryBackend())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"max_bytes": 0}, {"recheck": 0}, {"when_away": -1}, {"when_away": math.nan}, {"heartbeat": 0}],
)
def test_what_cannot_work_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        TieredBackend(RedisBackend("redis://127.0.0.1:1"), **options)  # type: ignore[arg-type]
