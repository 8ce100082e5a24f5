"""The table of counts stays within its bounds, and forgets nobody who is at a limit."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import pytest

from fastapi_prodkit import ConfigurationError, MemoryBackend
from fastapi_prodkit.backends.memory import MemoryCounters
from fastapi_prodkit.rate_limit import Calendar
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Algorithm, Charge, Limit

LIMIT = (Limit("a", 3, 60, 3),)
DAY = Calendar("UTC").period("per-day")


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving"])
async def test_a_flood_of_others_never_frees_who_is_at_its_limit(algorithm: Algorithm) -> None:
    limit = (Limit("a", 3, 60, 3, algorithm),)
    counters = MemoryCounters(max_keys=100, clock=Clock())
    for _ in range(3):
        await counters.weigh(Charge("blocked", limit))
    for number in range(4_000):
        await counters.weigh(Charge(f"other-{number}", limit))
        assert len(counters) <= 100
    [verdict] = await counters.weigh(Charge("blocked", limit))
    assert not verdict.admitted


async def test_a_flood_never_frees_who_used_up_a_day_until_the_day_is_over() -> None:
    clock = Clock(DAY(Clock()())[0])
    limit = (Limit("a", 3, 86_400, 3, "calendar", DAY),)
    counters = MemoryCounters(max_keys=100, clock=clock, wall_clock=clock)
    for _ in range(3):
        await counters.weigh(Charge("blocked", limit))
    for number in range(4_000):
        await counters.weigh(Charge(f"other-{number}", limit))
        clock.advance(1)
        assert len(counters) <= 100
    [verdict] = await counters.weigh(Charge("blocked", limit))
    assert not verdict.admitted
    clock.advance(verdict.retry)
    assert (await counters.weigh(Charge("blocked", limit)))[0].admitted


async def test_a_flood_never_frees_the_places_of_who_runs_all_that_he_may() -> None:
    clock, limit = Clock(), (Limit("a", 3, 30, 3, "concurrent"),)
    counters = MemoryCounters(max_keys=100, clock=clock)
    for token in "abc":
        await counters.weigh(Charge("blocked", limit, token=token))
    for number in range(4_000):
        await counters.weigh(Charge(f"other-{number}", limit, token=f"{number}"))
        assert len(counters) <= 100
        if number % 500 == 0:  # what still runs is renewed
            clock.advance(10)
            for token in "abc":
                await counters.weigh(Charge("blocked", limit, token=token), force=True)
    [verdict] = await counters.weigh(Charge("blocked", limit, token="d"))
    assert not verdict.admitted
    await counters.weigh(Charge("blocked", limit, -1, token="b"), force=True)
    assert (await counters.weigh(Charge("blocked", limit, token="d")))[0].admitted


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving"])
async def test_a_flood_never_frees_who_was_charged_beyond_his_limit(algorithm: Algorithm) -> None:
    limit = (Limit("a", 3, 60, 3, algorithm),)
    counters = MemoryCounters(max_keys=100, clock=Clock())
    await counters.weigh(Charge("blocked", limit, 9), force=True)
    for number in range(4_000):
        await counters.weigh(Charge(f"other-{number}", limit))
    await counters.weigh(Charge("blocked", limit, -6), force=True)
    assert not (await counters.weigh(Charge("blocked", limit)))[0].admitted


async def test_where_all_are_at_their_limit_newcomers_share_what_is_left() -> None:
    clock = Clock()
    counters = MemoryCounters(max_keys=10, clock=clock)
    for number in range(10):
        await counters.weigh(Charge(f"blocked-{number}", LIMIT, 3))
    admitted = [(await counters.weigh(Charge(f"new-{number}", LIMIT)))[0].admitted for number in range(9)]
    assert admitted == [True] * 3 + [False] * 6
    for number in range(10):
        assert not (await counters.weigh(Charge(f"blocked-{number}", LIMIT)))[0].admitted
    assert len(counters) <= 11
    clock.advance(60)
    assert all([(await counters.weigh(Charge(f"new-{number}", LIMIT)))[0].admitted for number in range(9)])


async def test_those_nearest_to_zero_go_first() -> None:
    counters = MemoryCounters(max_keys=50, clock=Clock())
    limit = (Limit("a", 100, 60, 100),)
    for number in range(30):
        await counters.weigh(Charge(f"busy-{number}", limit, 60))
    for number in range(500):
        await counters.weigh(Charge(f"once-{number}", limit))
    left = [
        (await counters.weigh(Charge(f"busy-{number}", limit, dry=True)))[0].remaining for number in range(30)
    ]
    assert left == [40] * 30


def test_a_client_takes_at_most_two_hundred_bytes() -> None:
    counters = MemoryBackend().counters
    limit = (Limit("abcdefghgc60", 10, 60, 10),)

    async def fill(count: int) -> None:
        for number in range(count):
            await counters.weigh(Charge(f"{number:020d}", limit))

    tracemalloc.start()
    asyncio.run(fill(20_000))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 20_000 <= 200


async def test_a_hit_costs_the_same_among_many_as_among_few() -> None:
    async def best(counters: MemoryCounters) -> float:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            for number in range(200):
                await counters.weigh(Charge(str(number), LIMIT, dry=True))
            times.append(time.perf_counter() - started)
        return min(times)

    few, many = MemoryCounters(), MemoryCounters()
    for number in range(50_000):
        await many.weigh(Charge(str(number), LIMIT))
    assert await best(many) < 2.5 * await best(few)


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        MemoryCounters(max_keys=0)
