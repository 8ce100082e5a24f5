"""The same limits on a cluster, and through a Sentinel."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_prodkit import RedisBackend
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
