"""What every `Counters` keeps to."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import pytest

from ..typing import Algorithm, Charge, Counters, Limit, Verdict
from .clock import Clock

__all__ = ["CountersContract"]

_ALGORITHMS: tuple[Algorithm, ...] = ("gcra", "sliding", "moving", "calendar")
_DAY = 86_400.0


def _today(now: float) -> tuple[float, float]:
    start = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    return start, start + _DAY


def _limit(algorithm: Algorithm = "gcra", quota: int = 10, window: float = 60, name: str = "a") -> Limit:
    period = _today if algorithm == "calendar" else None
    return Limit(name, quota, window, quota, algorithm, period)


class CountersContract:
    """Inherit it and give it two fixtures: `counters`, open and empty, and the `clock` that they go by."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_the_quota_is_admitted_and_not_one_more(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm)
        verdicts = [await _one(counters, limit) for _ in range(13)]
        assert [each.admitted for each in verdicts] == [True] * 10 + [False] * 3
        assert [each.remaining for each in verdicts] == [*range(9, -1, -1), 0, 0, 0]
        assert all(each.retry == 0 for each in verdicts[:10])
        assert all(0 < each.retry <= _DAY for each in verdicts[10:])

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_of_many_at_once_exactly_the_quota_is_admitted(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm, quota=50)
        verdicts = await asyncio.gather(*(_one(counters, limit) for _ in range(1000)))
        assert sum(each.admitted for each in verdicts) == 50
        assert sorted(each.remaining for each in verdicts if each.admitted) == list(range(50))

    @pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving"])
    async def test_who_waits_as_told_is_admitted_and_who_comes_before_is_not(
        self, counters: Counters, clock: Clock, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm)
        for _ in range(20):
            while (verdict := await _one(counters, limit)).admitted:
                clock.advance(0.37)
            clock.advance(verdict.retry - 0.01)
            assert not (await _one(counters, limit)).admitted
            clock.advance(0.01)
            assert (await _one(counters, limit)).admitted

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_after_the_reset_everything_is_there_again(
        self, counters: Counters, clock: Clock, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm)
        for _ in range(4):
            verdict = await _one(counters, limit)
            clock.advance(1)
        clock.advance(verdict.reset)
        verdict = await _one(counters, limit, dry=True)
        assert (verdict.remaining, verdict.reset) == (10, 0)

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_a_refusal_by_one_limit_charges_none(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        hour, minute = _limit(algorithm, 10, 3600, "hour"), _limit(algorithm, 5, 60, "minute")
        for turn in range(20):
            verdicts = await counters.weigh(Charge("me", (hour, minute)))
            assert [each.admitted for each in verdicts] == [True, turn < 5]
        [left] = await counters.weigh(Charge("me", (hour,), dry=True))
        assert left.remaining == 5

    async def test_several_subjects_are_one_decision(self, counters: Counters) -> None:
        limit, wide = _limit(quota=2), _limit(quota=100, name="wide")
        for _ in range(5):
            await counters.weigh(Charge("me", (limit,)), Charge("everyone", (wide,), 7))
        [mine, all_] = await counters.weigh(Charge("me", (limit,), 0), Charge("everyone", (wide,), 0))
        assert (mine.remaining, all_.remaining) == (0, 86)

    async def test_subjects_and_limits_are_apart(self, counters: Counters) -> None:
        limit, other = _limit(quota=1), _limit(quota=1, name="b")
        for subject in ("a", "b", "a:a", "{a}", "a b", "ключ"):
            for each in (limit, other):
                assert (await _one(counters, each, subject=subject)).admitted
                assert not (await _one(counters, each, subject=subject)).admitted

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_costs_are_charged_whole_or_not_at_all(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm)
        assert (await _one(counters, limit, cost=7)).remaining == 3
        refused = await _one(counters, limit, cost=4)
        assert not refused.admitted
        assert refused.remaining == 3
        assert (await _one(counters, limit, cost=3)).remaining == 0
        assert (await _one(counters, limit, cost=0)).admitted

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_what_never_fits_says_so(self, counters: Counters, algorithm: Algorithm) -> None:
        verdict = await _one(counters, _limit(algorithm), cost=11)
        assert not verdict.admitted
        assert verdict.retry == math.inf

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_peeking_charges_nothing(self, counters: Counters, algorithm: Algorithm) -> None:
        limit = _limit(algorithm)
        for _ in range(20):
            assert (await _one(counters, limit, dry=True)).remaining == 10
        for _ in range(10):
            await _one(counters, limit)
        assert not (await _one(counters, limit, dry=True)).admitted

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_force_charges_beyond_the_limit_and_giving_back_undoes_it(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        limit = _limit(algorithm)
        forced = await _one(counters, limit, cost=15, force=True)
        assert (forced.admitted, forced.remaining) == (False, 0)
        assert not (await _one(counters, limit)).admitted
        assert (await _one(counters, limit, cost=-8, force=True)).remaining == 3
        assert (await _one(counters, limit, cost=-100, force=True)).remaining == 10

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_a_reset_forgets_one_subject(self, counters: Counters, algorithm: Algorithm) -> None:
        limit, other = _limit(algorithm), _limit(algorithm, name="b")
        for each in (limit, other):
            for subject in ("me", "you"):
                await _one(counters, each, cost=10, subject=subject)
        assert not (await _one(counters, limit)).admitted
        await counters.reset("me", (limit,))
        assert (await _one(counters, limit)).admitted
        assert not (await _one(counters, other)).admitted
        assert not (await _one(counters, limit, subject="you")).admitted

    @pytest.mark.parametrize("algorithm", _ALGORITHMS)
    async def test_a_changed_quota_keeps_what_was_used(
        self, counters: Counters, algorithm: Algorithm
    ) -> None:
        await _one(counters, _limit(algorithm, quota=100), cost=60)
        assert (await _one(counters, _limit(algorithm, quota=200), dry=True)).remaining == 140
        assert not (await _one(counters, _limit(algorithm, quota=50))).admitted

    async def test_pacing_exactly_at_the_limit_is_never_refused(
        self, counters: Counters, clock: Clock
    ) -> None:
        start = clock()
        limit = Limit("paced", 7, 60, 1)
        for turn in range(1000):
            clock.now = start + turn * 60 / 7
            assert (await _one(counters, limit)).admitted, turn

    async def test_a_burst_is_what_may_come_at_once(self, counters: Counters, clock: Clock) -> None:
        limit = Limit("bursty", 60, 60, 5)
        assert sum([(await _one(counters, limit)).admitted for _ in range(9)]) == 5
        clock.advance(2)
        assert sum([(await _one(counters, limit)).admitted for _ in range(9)]) == 2

    async def test_a_moving_window_is_a_hard_cap(self, counters: Counters, clock: Clock) -> None:
        limit = _limit("moving")
        admitted = []
        for _ in range(400):
            clock.advance(1.7)
            if (await _one(counters, limit)).admitted:
                admitted.append(clock())
        assert all(later - earlier >= 59.9 for earlier, later in zip(admitted, admitted[10:], strict=False))

    async def test_a_calendar_day_starts_anew_at_midnight(self, counters: Counters, clock: Clock) -> None:
        limit = _limit("calendar")
        _, end = _today(clock())
        clock.now = end - 30
        assert sum([(await _one(counters, limit)).admitted for _ in range(12)]) == 10
        refused = await _one(counters, limit)
        assert refused.retry == pytest.approx(30, abs=0.001)
        clock.advance(30)
        assert (await _one(counters, limit)).remaining == 9

    async def test_what_is_held_is_free_again_when_given_back_or_when_its_lease_ends(
        self, counters: Counters, clock: Clock
    ) -> None:
        limit = _limit("concurrent", quota=3, window=30)

        async def hold(token: str, cost: int = 1, *, force: bool = False) -> Verdict:
            [verdict] = await counters.weigh(Charge("me", (limit,), cost, token=token), force=force)
            return verdict

        assert [(await hold(token)).remaining for token in "abc"] == [2, 1, 0]
        refused = await hold("d")
        assert not refused.admitted
        assert 0 < refused.retry <= 30
        assert (await hold("b", -1, force=True)).remaining == 1
        assert (await hold("b", -1, force=True)).remaining == 1
        assert (await hold("d")).admitted
        clock.advance(20)
        assert (await hold("a", force=True)).remaining == 0
        clock.advance(11)
        assert (await hold("e")).remaining == 1
        clock.advance(20)
        assert (await hold("f")).remaining == 1

    async def test_what_must_only_fit_is_not_charged_beside_what_is(self, counters: Counters) -> None:
        limit, gate = _limit(), _limit(quota=1, name="gate")
        for _ in range(3):
            verdicts = await counters.weigh(Charge("me", (limit,)), Charge("me", (gate,), 1, dry=True))
            assert all(verdict.admitted for verdict in verdicts)
        await _one(counters, gate)
        verdicts = await counters.weigh(Charge("me", (limit,)), Charge("me", (gate,), 1, dry=True))
        assert [verdict.admitted for verdict in verdicts] == [True, False]
        assert (await _one(counters, limit, dry=True)).remaining == 7

    async def test_nothing_to_weigh_is_no_verdict(self, counters: Counters) -> None:
        assert await counters.weigh() == []
        assert await counters.weigh(Charge("me", ())) == []


async def _one(
    counters: Counters,
    limit: Limit,
    *,
    cost: int = 1,
    subject: str = "me",
    dry: bool = False,
    force: bool = False,
) -> Verdict:
    [verdict] = await counters.weigh(Charge(subject, (limit,), cost, dry), force=force)
    return verdict
