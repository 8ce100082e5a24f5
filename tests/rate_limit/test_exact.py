"""Exactly the quota, whatever the crowd."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from fastapi import Depends, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware, RedisBackend
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Backend, Charge, Limit
from tests.servers import RedisServer, Uvicorn

from .conftest import Open


def create_app() -> FastAPI:
    """Served by several workers below, with the settings that nobody chose."""
    backend = RedisBackend(os.environ["REDIS_URL"])
    limiter = RateLimiter(backend.counters)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(RateLimitMiddleware)
    by_hour = Depends(limiter("50/hour"))
    by_minute = Depends(limiter("50/minute", algorithm="moving"))  # gcra gives one back every 1.2 s

    async def worker() -> int:
        return os.getpid()

    app.get("/hour", dependencies=[by_hour])(worker)
    app.get("/minute", dependencies=[by_minute])(worker)
    app.get("/worker")(worker)
    return app


async def test_a_thousand_at_once_at_four_processes_on_one_server_are_admitted_the_quota(
    redis_server: RedisServer,
) -> None:
    clients_before = _clients(redis_server)
    arguments = ["--factory", "--workers", "4", "--no-access-log"]
    environment = {"REDIS_URL": redis_server.url}
    target = "tests.rate_limit.test_exact:create_app"
    with Uvicorn(target, arguments=arguments, environment=environment) as server:
        workers: set[str] = set()
        while len(workers) < 4:
            answers = await asyncio.gather(*(_get(server.port, "/worker") for _ in range(16)))
            workers |= {body for _, _, body in answers}
        connected_before = _connected(redis_server)
        for path in ("/hour", "/minute"):
            answers = await asyncio.gather(*(_get(server.port, path) for _ in range(1000)))
            assert Counter(status for status, _, _ in answers) == {200: 50, 429: 950}
            admitted = [(head, body) for status, head, body in answers if status == 200]
            left = [head.split("\r\nratelimit: ")[1].split("r=")[1].split(";")[0] for head, _ in admitted]
            assert sorted(map(int, left)) == list(range(50))
        assert _connected(redis_server) == connected_before + 1  # which is the one that asks
        assert _clients(redis_server) - clients_before <= 8


async def _get(port: int, path: str) -> tuple[int, str, str]:
    """Status, head and body of an answer on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head.lower(), body


def _connected(server: RedisServer) -> int:
    """How many connections it was ever asked for."""
    return int(server.command("INFO", "stats").split("total_connections_received:")[1].split("\r")[0])


def _clients(server: RedisServer) -> int:
    return server.command("CLIENT", "LIST").count("id=")


async def test_a_thousand_at_once_are_weighed_by_the_server_with_the_default_settings(
    redis_server: RedisServer, client_of: Open
) -> None:
    async with RedisBackend(redis_server.url) as backend:
        limiter = RateLimiter(backend.counters)
        app = FastAPI()
        app.add_middleware(RateLimitMiddleware)
        app.get("/", dependencies=[Depends(limiter("50/hour"))])(lambda: "ok")
        client = await client_of(app)
        answers = await asyncio.gather(*(client.get("/") for _ in range(1000)))
    assert Counter(each.status_code for each in answers) == {200: 50, 429: 950}


async def test_a_thousand_requests_of_three_limits_take_at_most_ten_round_trips(
    redis_server: RedisServer,
) -> None:
    limits = (Limit("a", 50, 3600, 50), Limit("b", 500, 7200, 500), Limit("c", 5000, 86400, 5000))
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        await backend.counters.weigh(Charge("warm", limits))
        writer = backend.counters._wire._writer  # type: ignore[attr-defined] # of the link
        writes = 0
        write = writer.writelines

        def counted(packets: list[bytes]) -> None:
            nonlocal writes
            writes += 1
            write(packets)

        writer.writelines = counted
        verdicts = await asyncio.gather(*(backend.counters.weigh(Charge("me", limits)) for _ in range(1000)))
    assert writes <= 10
    assert sum(all(each.admitted for each in verdict) for verdict in verdicts) == 50
    [left] = [each[1].remaining for each in verdicts if not each[0].admitted][:1]
    assert left == 450


_KINDS = st.sampled_from(["charge", "peek", "restart"])
_STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4), _KINDS), max_size=60)
_JUMPS = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(-4000, 40), st.integers(1, 4), _KINDS), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), _STEPS)
def test_the_cell_rate_algorithm_admits_what_the_exact_model_admits(
    quota: int, burst: int, steps: list[tuple[int, int, str]]
) -> None:
    """Against a bucket in whole numbers: time in 1/16 of an interval, so that nothing is rounded."""
    clock = Clock(0.0)

    async def run() -> None:
        await _compare(quota, burst, steps, clock, lambda: MemoryBackend(clock=clock), forgets=True)

    asyncio.run(run())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.integers(1, 12), _JUMPS)
def test_so_do_workers_that_come_and_go_around_one_server_whose_clock_steps_back(
    redis_server: RedisServer, quota: int, burst: int, steps: list[tuple[int, int, str]]
) -> None:
    redis_server.command("FLUSHALL")
    clock = Clock()

    async def run() -> None:
        await _compare(
            quota,
            burst,
            steps,
            clock,
            lambda: RedisBackend(redis_server.url, timeout=5, clock=clock),
            forgets=False,
        )

    asyncio.run(run())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), _KINDS), max_size=40),
)
def test_workers_whose_own_clocks_differ_admit_the_burst_between_them(
    redis_server: RedisServer, burst: int, steps: list[tuple[int, int, str]]
) -> None:
    """A unit comes back in a month: by the clock of the server none does, by theirs dozens would."""
    redis_server.command("FLUSHALL")
    skews = (0, -100_000_000, 100_000_000, 10_000_000)
    limit = (Limit("x", 1, 30 * 86_400.0, burst),)
    now = time.time

    async def run() -> None:
        left = burst
        async with AsyncExitStack() as stack:
            workers = []
            for _ in skews:
                workers.append(await stack.enter_async_context(RedisBackend(redis_server.url, timeout=5)))
            for worker, cost, step in steps:
                skew = skews[worker]
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(time, "time", lambda skew=skew: now() + skew)
                    if step == "restart":
                        await workers[worker].__aexit__()
                        await workers[worker].__aenter__()
                        continue
                    charge = Charge("me", limit, cost, dry=step == "peek")
                    [verdict] = await workers[worker].counters.weigh(charge)
                assert verdict.admitted is (cost <= left)
                if verdict.admitted and step == "charge":
                    left -= cost
                    assert verdict.remaining == left

    asyncio.run(run())


async def _compare(
    quota: int,
    burst: int,
    steps: list[tuple[int, int, str]],
    clock: Clock,
    make: Callable[[], Backend],
    *,
    forgets: bool,
) -> None:
    limit = Limit("x", quota, float(quota * 16), burst)
    start = clock()
    owed = 0  # sixteenths of a unit, at a time that is never ahead of the clock once somebody has looked
    since = 0
    log: list[tuple[int, int]] = []
    now = 0
    passed = 0  # a clock that steps back takes no time
    stack = AsyncExitStack()
    counters = (await stack.enter_async_context(make())).counters
    for wait, cost, step in steps:
        now += wait
        passed += max(0, wait)
        clock.now = start + now
        if step == "restart":
            await stack.aclose()
            counters = (await stack.enter_async_context(make())).counters
            if forgets:
                owed, log = 0, []
            continue
        since = min(since, now)
        left = max(0, owed - (now - since))
        fits = left + cost * 16 <= burst * 16
        [verdict] = await counters.weigh(Charge("me", (limit,), cost, dry=step == "peek"))
        assert verdict.admitted is fits
        if fits and step == "charge":
            left += cost * 16
            owed, since = left, now
            log.append((passed, cost))
        assert verdict.remaining == (burst * 16 - left) // 16
        assert abs(verdict.reset - left) < 1e-5
        if not fits and cost <= burst:
            assert abs(verdict.retry - (left + cost * 16 - burst * 16)) < 1e-5
    await stack.aclose()
    for index, (first, _) in enumerate(log):
        total = 0
        for at, cost in log[index:]:
            total += cost
            assert total <= burst + (at - first) / 16  # the bound that the docs state: burst + N * d / W
