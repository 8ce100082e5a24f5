"""The same limits on a cluster, and through a Sentinel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_prodkit import RedisBackend
from fastapi_prodkit.backends.redis.url import Wire
from fastapi_prodkit.typing import Charge, Limit
from tests.servers import RedisCluster, RedisSentinel


@pytest.fixture(params=["redis_cluster", "redis_sentinel"])
def place(request: pytest.FixtureRequest) -> RedisCluster | RedisSentinel:
    found: RedisCluster | RedisSentinel = request.getfixturevalue(request.param)
    return found


async def test_exactly_the_quota_is_admitted_of_each_of_many_subjects(
    place: RedisCluster | RedisSentinel,
) -> None:
    limits = (Limit("a", 10, 3600, 10), Limit("b", 50, 86400, 50))
    subjects = [f"subject-{number}" for number in range(12)]
    async with RedisBackend(place.url, timeout=5) as backend:
        verdicts = await asyncio.gather(
            *(backend.counters.weigh(Charge(subject, limits)) for subject in subjects for _ in range(40))
        )
        admitted = [all(each.admitted for each in verdict) for verdict in verdicts]
        assert [sum(admitted[start : start + 40]) for start in range(0, len(admitted), 40)] == [10] * 12


async def test_subjects_on_different_servers_are_charged_together_or_not_at_all(
    place: RedisCluster | RedisSentinel,
) -> None:
    mine, wide = (Limit("mine", 3, 3600, 3),), (Limit("wide", 1000, 3600, 1000),)
    async with RedisBackend(place.url, timeout=5) as backend:
        for subject in ("a", "b", "c", "d"):
            verdicts = await asyncio.gather(
                *(backend.counters.weigh(Charge(subject, mine), Charge("all", wide)) for _ in range(20))
            )
            assert sum(all(each.admitted for each in verdict) for verdict in verdicts) == 3
        [left] = await backend.counters.weigh(Charge("all", wide, dry=True))
        assert left.remaining == 1000 - 4 * 3


class _Held:
    """The wire of a worker that is held up before it charges, and before it gives back."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.charges, self.gives_back = asyncio.Event(), asyncio.Event()
        self.charging, self.giving_back = asyncio.Event(), asyncio.Event()

    async def call(self, *command: Any) -> Any:
        words = [each for each in command if isinstance(each, str)]
        if any(each.startswith("2 0 ") for each in words):
            self.charging.set()
            await self.charges.wait()
        if any(each.startswith("-2 0 ") for each in words):
            self.giving_back.set()
            await self.gives_back.wait()
        return await self._wire.call(*command)


async def test_who_is_refused_for_a_charge_is_let_in_once_that_is_undone(
    redis_cluster: RedisCluster,
) -> None:
    mine, wide = (Limit("mine", 2, 3600, 2),), (Limit("wide", 2, 3600, 2),)
    async with (
        RedisBackend(redis_cluster.url, timeout=5) as one,
        RedisBackend(redis_cluster.url, timeout=5) as other,
    ):
        held = one.counters._wire = _Held(one._wire)  # type: ignore[assignment] # all that is asked of one
        losing = asyncio.create_task(one.counters.weigh(Charge("ada", mine, 2), Charge("all", wide, 2)))
        await held.charging.wait()
        assert (await other.counters.weigh(Charge("ada", mine)))[0].admitted
        held.charges.set()
        await held.giving_back.wait()

        async def admitted(backend: RedisBackend, subject: str) -> bool:
            return all(
                each.admitted
                for each in await backend.counters.weigh(Charge(subject, mine), Charge("all", wide))
            )

        for _ in range(2):
            assert not await admitted(one, "bob")
            assert not await admitted(other, "eve")
        held.gives_back.set()
        assert [each.admitted for each in await losing] == [False, True]
        for backend, subject in ((one, "bob"), (other, "eve")):
            async with asyncio.timeout(5):
                while not await admitted(backend, subject):
                    await asyncio.sleep(0.01)
        [left] = await other.counters.weigh(Charge("all", wide, 0))
        assert left.remaining == 0
