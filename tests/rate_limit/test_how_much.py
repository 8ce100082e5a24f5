"""Plans, costs, reservations, outcomes, bans, shadow, reload, and what tests of users need."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.requests import HTTPConnection, Request

from fastapi_prodkit import ConfigurationError, MemoryBackend, ProblemError, RateLimiter, RateLimitMiddleware
from fastapi_prodkit.rate_limit import Ban, Calendar, Decision, RateLimit, by_header
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Charge, Limit

from .conftest import Open


async def _endpoint() -> str:
    return "ok"


def _app(rule: RateLimit) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(rule)])(_endpoint)

    @app.get("/login/{password}", dependencies=[Depends(rule)])
    async def login(password: str) -> str:
        if password != "right":
            raise HTTPException(401)
        return "welcome"

    return app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(MemoryBackend(clock=clock, wall_clock=clock).counters, clock=clock)


async def _admitted(client: httpx2.AsyncClient, count: int, path: str = "/", **headers: str) -> int:
    answers = [await client.get(path, headers=headers) for _ in range(count)]
    return sum(answer.status_code != 429 for answer in answers)


async def test_a_plan_is_asked_once_a_second_and_a_change_is_felt_within_one(
    limiter: RateLimiter, clock: Clock, client_of: Open
) -> None:
    plans = {"ada": "2/hour", "bob": "5/hour"}
    asked: list[str] = []

    async def plan(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0)
        return plans[key]

    client = await client_of(_app(limiter(plan, key=by_header("user"))))
    assert await _admitted(client, 9, user="ada") == 2
    assert await _admitted(client, 9, user="bob") == 5
    assert asked == ["ada", "bob"]
    plans["ada"] = "4/hour"
    clock.advance(1)
    assert await _admitted(client, 9, user="ada") == 2


async def test_many_at_once_ask_for_a_plan_once(limiter: RateLimiter, client_of: Open) -> None:
    asked = 0

    def plan(key: str) -> str:
        nonlocal asked
        asked += 1
        return "5/hour"

    client = await client_of(_app(limiter(plan)))
    statuses = await asyncio.gather(*(client.get("/") for _ in range(20)))
    assert sum(each.status_code == 200 for each in statuses) == 5
    assert asked == 1


async def test_a_plan_that_fails_keeps_the_last_one_and_lets_nobody_through_before_the_first(
    limiter: RateLimiter, clock: Clock, client_of: Open
) -> None:
    fails = True

    async def plan(key: str) -> str:
        if fails:
            raise OSError
        return "3/hour"

    client = await client_of(_app(limiter(plan)))
    assert (await client.get("/")).status_code == 500
    fails = False
    assert await _admitted(client, 2) == 2
    fails = True
    clock.advance(1)
    assert await _admitted(client, 2) == 1


async def test_a_cost_may_be_computed(limiter: RateLimiter, client_of: Open) -> None:
    async def cost(connection: HTTPConnection) -> int:
        return int(connection.headers["size"])

    client = await client_of(_app(limiter("10/hour", cost=cost)))
    statuses = [
        (await client.get("/", headers={"size": size})).status_code for size in ("7", "4", "3", "0", "1")
    ]
    assert statuses == [200, 429, 200, 200, 429]
    assert (await client.get("/", headers={"size": "-5"})).status_code == 500
    assert (await client.get("/", headers={"size": "1"})).status_code == 429


def _request() -> Request:
    return Request({"type": "http", "client": ("1.2.3.4", 1), "headers": [], "path": "/"})


async def test_a_reservation_charges_what_it_came_to(limiter: RateLimiter) -> None:
    tokens = limiter("1000/hour", name="tokens")

    async def left() -> float:
        return (await tokens.peek("1.2.3.4")).remaining

    async with tokens.reserve(_request(), 500) as reservation:
        assert await left() == 500
        reservation.settle(312)
    assert await left() == 688
    async with tokens.reserve(_request(), 100):
        pass
    assert await left() == 588
    with pytest.raises(RuntimeError):
        async with tokens.reserve(_request(), 500):
            raise RuntimeError
    assert await left() == 588
    async with tokens.reserve(_request(), 588) as reservation:
        reservation.settle(1588)
    with pytest.raises(ProblemError) as refused:
        async with tokens.reserve(_request(), 1):
            pass
    assert refused.value.headers == {"Retry-After": "3604"}


@pytest.mark.parametrize("algorithm", ["gcra", "moving", Calendar()])
async def test_a_reservation_gives_nothing_back_of_a_quota_that_came_after_it(
    limiter: RateLimiter, clock: Clock, algorithm: Any
) -> None:
    tokens = limiter("1000/day", name="tokens", algorithm=algorithm)
    async with tokens.reserve(_request(), 900) as reservation:
        clock.advance(86_400)
        assert (await tokens.hit(_request(), cost=600)).admitted
        reservation.settle(100)
    assert (await tokens.peek("1.2.3.4")).remaining == 400


async def test_only_the_outcomes_named_are_counted(limiter: RateLimiter, client_of: Open) -> None:
    client = await client_of(_app(limiter("3/hour", name="login", statuses={401, 403})))
    assert await _admitted(client, 20, "/login/right") == 20
    wrong = [await client.get("/login/wrong") for _ in range(5)]
    assert [each.status_code for each in wrong] == [401, 401, 401, 429, 429]
    assert [each.headers["ratelimit"].split(";")[1] for each in wrong[:3]] == ["r=2", "r=1", "r=0"]
    assert (await client.get("/login/right")).status_code == 429


async def test_an_error_that_nobody_answers_counts_as_the_500_that_it_becomes(
    limiter: RateLimiter, client_of: Open
) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)

    @app.get("/", dependencies=[Depends(limiter("2/hour", statuses={500}))])
    async def fail() -> None:
        raise RuntimeError

    client = await client_of(app)
    assert [(await client.get("/")).status_code for _ in range(4)] == [500, 500, 429, 429]


async def test_bans_grow_and_end(limiter: RateLimiter, clock: Clock, client_of: Open) -> None:
    ban = Ban(after=2, within=600, first=100, factor=3, longest=500)
    client = await client_of(_app(limiter("1/second", ban=ban)))
    lengths = []
    for _ in range(4):
        while True:
            answer = await client.get("/")
            if answer.status_code == 429 and int(answer.headers["retry-after"]) > 1:
                break
        lengths.append(int(answer.headers["retry-after"]))
        assert answer.headers["ratelimit-policy"] == '"per-second";q=1;w=1'
        assert await _admitted(client, 5) == 0
        clock.advance(lengths[-1] - 1)
        assert await _admitted(client, 1) == 0
        clock.advance(1)
        assert await _admitted(client, 1) == 1
    assert lengths == [100, 300, 500, 500]


async def test_a_ban_that_is_not_in_force_takes_nothing_from_what_is_left(
    limiter: RateLimiter, client_of: Open
) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, legacy_headers=True)
    rule = limiter("9/minute", ban=Ban(after=1, first=100))

    @app.get("/")
    async def read(decision: Decision = Depends(rule)) -> float:
        return decision.remaining

    client = await client_of(app)
    answer = await client.get("/")
    assert answer.json() == 8
    names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
    assert [answer.headers[each] for each in names] == ["9", "8", "7"]
    for _ in range(10):
        refused = await client.get("/")
    assert [refused.headers[each] for each in names] == ["9", "0", "100"]


async def test_a_reset_lifts_a_ban(limiter: RateLimiter, client_of: Open) -> None:
    client = await client_of(_app(limiter("1/minute", ban=Ban(after=1, first=1000))))
    assert await _admitted(client, 5) == 1
    await limiter.reset("127.0.0.1")
    assert await _admitted(client, 1) == 1


async def test_a_flood_of_others_frees_nobody_who_is_banned(clock: Clock, client_of: Open) -> None:
    counters = MemoryBackend(clock=clock, max_keys=100).counters
    limiter = RateLimiter(counters, key=by_header("x-user"))
    client = await client_of(_app(limiter("2/second", ban=Ban(after=2, first=1000))))

    async def asked(user: str) -> httpx2.Response:
        return await client.get("/", headers={"x-user": user})

    assert [(await asked("me")).status_code for _ in range(5)] == [200, 200, 429, 429, 429]
    clock.advance(10)
    days = (Limit("days", 9, 9 * 86_400, 9),)  # further from zero than the ban is
    for number in range(1_000):
        await counters.weigh(Charge(f"other-{number}", days))
        assert len(counters) <= 100
    refused = await asked("me")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "990")
    clock.advance(990)
    assert (await asked("me")).status_code == 200


async def test_a_limit_in_shadow_refuses_nobody_and_measures(
    clock: Clock, client_of: Open, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    limiter = RateLimiter(
        MemoryBackend(clock=clock).counters, on_refusal=lambda rule, connection: told.append(rule)
    )
    rule = limiter("2/hour", shadow=True)
    client = await client_of(_app(rule))
    with caplog.at_level(logging.INFO, "fastapi_prodkit.rate_limit"):
        answers = [await client.get("/") for _ in range(5)]
    assert [each.status_code for each in answers] == [200] * 5
    assert "ratelimit" not in answers[4].headers
    assert rule.refused == 3
    assert told == [rule] * 3
    assert caplog.text.count("would have refused") == 3


async def test_a_count_of_refusals_that_fails_refuses_nobody_and_lets_nobody_through(
    client_of: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(rule: RateLimit, connection: HTTPConnection) -> None:
        raise RuntimeError("no metrics")

    limiter = RateLimiter(MemoryBackend().counters, on_refusal=broken)
    shadow = await client_of(_app(limiter("1/hour", name="shadow", shadow=True)))
    assert [(await shadow.get("/")).status_code for _ in range(3)] == [200] * 3
    client = await client_of(_app(limiter("1/hour")))
    assert [(await client.get("/")).status_code for _ in range(3)] == [200, 429, 429]
    assert "no metrics" in caplog.text


async def test_a_shadow_does_not_spoil_the_decision_beside_it(limiter: RateLimiter, client_of: Open) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limits = [Depends(limiter("1/hour", shadow=True)), Depends(limiter("3/hour"))]
    app.get("/", dependencies=limits)(_endpoint)
    assert await _admitted(await client_of(app), 5) == 3


async def test_a_shadow_measures_what_is_known_only_afterwards(limiter: RateLimiter, client_of: Open) -> None:
    logins = limiter("3/hour", name="login", statuses={401}, shadow=True)
    client = await client_of(_app(logins))
    for _ in range(4):
        assert await _admitted(client, 1, "/login/right") == 1
    assert [(await client.get("/login/wrong")).status_code for _ in range(5)] == [401] * 5
    assert logins.refused == 2
    tokens = limiter("100/hour", name="tokens", shadow=True)
    async with tokens.reserve(_request(), 50) as reservation:
        reservation.settle(10)
    assert (await tokens.peek("1.2.3.4")).remaining == 90


async def test_a_reload_neither_forgives_nor_locks_out(limiter: RateLimiter, client_of: Open) -> None:
    rule = limiter("10/hour")
    client = await client_of(_app(rule))
    assert await _admitted(client, 12) == 10
    rule.change("15/hour")
    assert await _admitted(client, 9) == 5
    rule.change("5/hour")
    assert await _admitted(client, 2) == 0
    with pytest.raises(ConfigurationError):
        rule.change("nonsense")
    rule.change("20/hour")
    assert await _admitted(client, 9) == 5


def test_what_comes_from_a_plan_or_is_held_cannot_be_changed_to_a_rate(limiter: RateLimiter) -> None:
    for rule in (limiter(lambda key: "5/minute", name="plan"), limiter.concurrent(3)):
        with pytest.raises(ConfigurationError, match="change"):
            rule.change("9/minute")


@pytest.mark.parametrize(
    ("limit", "zone", "now", "reset"),
    [
        ("3/day", Calendar("Europe/Berlin"), "2026-03-28T23:30:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("3/week", Calendar("UTC"), "2026-11-22T10:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("3/month", Calendar("America/New_York"), "2026-12-15T00:00:00+00:00", "2027-01-01T05:00:00+00:00"),
        ("3/month", Calendar("UTC"), "2028-02-29T12:00:00+00:00", "2028-03-01T00:00:00+00:00"),
    ],
)
async def test_a_calendar_quota_starts_anew_where_people_say_so(
    limiter: RateLimiter, clock: Clock, client_of: Open, limit: str, zone: Calendar, now: str, reset: str
) -> None:
    clock.now = datetime.fromisoformat(now).timestamp()
    client = await client_of(_app(limiter(limit, algorithm=zone)))
    assert await _admitted(client, 3) == 3
    refused = await client.get("/")
    assert clock.now + int(refused.headers["retry-after"]) == datetime.fromisoformat(reset).timestamp()
    clock.now = datetime.fromisoformat(reset).timestamp()
    assert await _admitted(client, 4) == 3


async def test_a_limit_may_be_overridden_disabled_reset_and_looked_at(
    limiter: RateLimiter, client_of: Open
) -> None:
    rule = limiter("2/hour")
    app = _app(rule)
    client = await client_of(app)
    assert await _admitted(client, 3) == 2
    assert not (await limiter.peek("127.0.0.1")).admitted
    with limiter.disabled():
        assert await _admitted(client, 3) == 3
    assert await _admitted(client, 1) == 0
    app.dependency_overrides[rule] = lambda: None
    assert await _admitted(client, 3) == 3
    app.dependency_overrides.clear()
    await limiter.reset("127.0.0.1")
    assert (await rule.peek("127.0.0.1")).remaining == 2
    assert await _admitted(client, 3) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": "often"},
        {"limit": ""},
        {"limit": "0/minute"},
        {"limit": "5/0 weeks"},
        {"limit": "1/minute;2/minute"},
        {"limit": "5/minute", "cost": 6},
        {"limit": "5/minute", "cost": -1},
        {"limit": "5/minute", "burst": 0},
        {"limit": "5/minute", "burst": 5, "algorithm": "moving"},
        {"limit": "5/minute", "algorithm": "magic"},
        {"limit": "5/minute", "algorithm": Calendar()},
        {"limit": "5/minute", "name": 'a"b'},
        {"limit": "5/minute", "name": ""},
        {"limit": "5/minute", "statuses": {1}},
    ],
)
def test_a_limit_that_cannot_hold_is_refused_when_it_is_made(
    limiter: RateLimiter, arguments: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        limiter(**arguments)  # type: ignore[arg-type] # wrong ones are the point


def test_a_limit_that_is_a_number_is_told_how_one_is_written(limiter: RateLimiter) -> None:
    with pytest.raises(ConfigurationError, match="limit=100: write it as '100/minute'"):
        limiter(100)  # type: ignore[arg-type] # the point


@pytest.mark.parametrize(
    "arguments",
    [
        {"without_key": "allow"},
        {"on_outage": "allow"},
        {"ipv6_prefix": 0},
        {"trusted_proxies": ["0.0.0.0/0"]},
        {"secret": b"x" * 65},
        {"max_keys": 0},
    ],
)
def test_a_limiter_that_cannot_work_is_refused_when_it_is_made(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RateLimiter(MemoryBackend().counters, **arguments)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("arguments", [{"after": 0}, {"factor": 0.5}, {"first": 10, "longest": 5}])
def test_a_ban_that_cannot_be_meant_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Ban(**arguments)  # type: ignore[arg-type] # as above


def test_a_calendar_of_no_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Mars"):
        Calendar("Mars/Olympus")


async def test_a_nameless_limit_cannot_be_used_without_a_route(limiter: RateLimiter) -> None:
    rule = limiter("1/minute")
    with pytest.raises(ConfigurationError, match="name="):
        await rule.hit(_request())
    with pytest.raises(ConfigurationError, match="name="):
        rule.reserve(_request(), 1)


async def test_a_look_at_who_is_banned_shows_the_ban(
    limiter: RateLimiter, clock: Clock, client_of: Open
) -> None:
    client = await client_of(_app(limiter("1/second", ban=Ban(after=1, first=100))))
    assert await _admitted(client, 4) == 1
    clock.advance(10)
    decision = await limiter.peek("127.0.0.1")
    assert (decision.admitted, decision.remaining, decision.retry_after) == (False, 0, 90)


async def test_a_limit_by_outcome_takes_no_hits_and_gives_nothing_back(limiter: RateLimiter) -> None:
    rule = limiter("9/minute", name="login", statuses={401})
    with pytest.raises(ConfigurationError, match="Depends"):
        await rule.hit(_request())
    with pytest.raises(ConfigurationError, match="Depends"):
        rule.reserve(_request(), 5)
