"""What only shared counters can get wrong: clocks."""

from __future__ import annotations

import time

import pytest

from fastapi_prodkit import RedisBackend
from fastapi_prodkit.rate_limit import Calendar
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Algorithm, Charge, Limit

DAY = Calendar("UTC").period("per-day")
LIMIT = (Limit("a", 10, 60, 10),)


async def test_a_server_whose_clock_is_behind_takes_over_and_neither_forgives_nor_locks_out(
    redis_url: str,
) -> None:
    clock = Clock()
    async with RedisBackend(redis_url, timeout=5, clock=clock) as backend:
        for _ in range(10):
            await backend.counters.weigh(Charge("me", LIMIT))
        clock.advance(-3600)
        [verdict] = await backend.counters.weigh(Charge("me", LIMIT))
        assert not verdict.admitted
        assert verdict.retry == pytest.approx(6, abs=0.01)
        clock.advance(6)
        [verdict] = await backend.counters.weigh(Charge("me", LIMIT))
        assert verdict.admitted


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving", "concurrent"])
async def test_a_server_whose_clock_is_behind_locks_nobody_out_for_longer_than_the_window(
    redis_url: str, algorithm: Algorithm
) -> None:
    clock, limit = Clock(), (Limit("a", 10, 60, 10, algorithm),)
    async with RedisBackend(redis_url, timeout=5, clock=clock) as backend:
        for number in range(10):
            await backend.counters.weigh(Charge("me", limit, token=str(number)))
        clock.advance(-3600)
        [verdict] = await backend.counters.weigh(Charge("me", limit, token="new"))
        assert not verdict.admitted
        assert verdict.retry <= 120
        clock.advance(121)
        [verdict] = await backend.counters.weigh(Charge("me", limit, token="new"))
        assert (verdict.admitted, verdict.remaining) == (True, 9)


@pytest.mark.parametrize("skew", [-36_000, -5, 5, 36_000])
@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving", "calendar"])
async def test_the_server_s_clock_counts_and_not_the_worker_s(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, skew: int
) -> None:
    period = DAY if algorithm == "calendar" else None
    limit = (Limit("a", 10, 86_400, 10, algorithm, period),)
    async with RedisBackend(redis_url, timeout=5) as right, RedisBackend(redis_url, timeout=5) as wrong:
        for _ in range(5):
            assert (await right.counters.weigh(Charge("me", limit)))[0].admitted
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + skew)
        for _ in range(5):
            assert (await wrong.counters.weigh(Charge("me", limit)))[0].admitted
        assert not (await wrong.counters.weigh(Charge("me", limit)))[0].admitted
