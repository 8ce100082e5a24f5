"""A blocked client costs the server next to nothing, and is let in again within a second."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.types import Message

from fastapi_prodkit import RateLimiter, RateLimitMiddleware, RedisBackend
from fastapi_prodkit.backends.memory import MemoryBus
from fastapi_prodkit.backends.redis import RedisCounters
from fastapi_prodkit.rate_limit import Ban
from fastapi_prodkit.typing import Charge, Counters, Limit, Verdict
from tests.servers import RedisServer

from .conftest import Open


def _commands(server: RedisServer) -> int:
    stats = server.command("INFO", "commandstats")
    return sum(
        int(line.split("calls=")[1].split(",")[0])
        for line in stats.splitlines()
        if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))
    )


async def test_ten_thousand_requests_of_a_blocked_client_cost_one_command(redis_server: RedisServer) -> None:
    limits = (Limit("a", 5, 3600, 5), Limit("b", 100, 86400, 100))
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        for _ in range(5):
            await backend.counters.weigh(Charge("me", limits))
        before = _commands(redis_server)
        for _ in range(10_000):
            verdicts = await backend.counters.weigh(Charge("me", limits))
            assert [each.admitted for each in verdicts] == [False, True]
        assert _commands(redis_server) - before <= 1
        assert verdicts[1].remaining == 95
        assert 700 < verdicts[0].retry <= 720


async def test_ten_thousand_requests_of_a_blocked_client_through_an_app_cost_one_command(
    redis_server: RedisServer, client_of: Open
) -> None:
    redis_server.command("CONFIG", "RESETSTAT")  # or a subscription of another test would pass for ours
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        limiter = RateLimiter(backend.counters)
        app = FastAPI()
        app.add_middleware(RateLimitMiddleware)
        app.get("/items/{number}", dependencies=[Depends(limiter("5/hour;9/day"))])(lambda: "ok")
        client = await client_of(app)
        statuses = [(await client.get(f"/items/{number}")).status_code for number in range(6)]
        assert statuses == [200] * 5 + [429]
        async with asyncio.timeout(5):
            while _calls(redis_server, "subscribe") == 0:
                await asyncio.sleep(0.005)
        before = _calls(redis_server)
        for number in range(10_000):
            assert await _status(app, f"/items/{number % 7}") == 429
        assert _calls(redis_server) - before <= 1
        refused = await client.get("/items/1")
        assert refused.headers["ratelimit"].startswith('"per-hour";r=0;t=')
        assert 710 < int(refused.headers["retry-after"]) <= 720
        await limiter.reset("127.0.0.1")
        async with asyncio.timeout(1):
            while await _status(app, "/items/1") != 200:
                await asyncio.sleep(0.01)


def _calls(server: RedisServer, command: str = "") -> int:
    """How often a command was called; any, but for what asks for this and for signs of life."""
    found = {}
    for line in server.command("INFO", "commandstats").splitlines():
        if line.startswith("cmdstat_"):
            name, _, stats = line.removeprefix("cmdstat_").partition(":calls=")
            found[name] = int(stats.split(",")[0])
    if command:
        return found.get(command, 0)
    return sum(calls for name, calls in found.items() if name not in ("info", "ping"))


async def _status(app: FastAPI, path: str) -> int:
    """What the server is sent for a request of 127.0.0.1, without the cost of a client."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "root_path": ""}
    await app({**scope, "headers": [], "client": ("127.0.0.1", 1)}, asyncio.Queue[Message]().get, send)
    status: int = sent[0]["status"]
    return status


async def test_the_refusal_ends_when_it_said(redis_server: RedisServer) -> None:
    limit = (Limit("a", 20, 1, 1),)
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        for _ in range(3):
            async with asyncio.timeout(5):
                while (await backend.counters.weigh(Charge("me", limit)))[0].admitted:
                    pass
                while not (await backend.counters.weigh(Charge("me", limit)))[0].admitted:
                    await asyncio.sleep(0.005)


async def test_a_reset_by_one_worker_lets_the_client_in_at_the_others_within_a_second(
    redis_server: RedisServer, client_of: Open
) -> None:
    async with (
        RedisBackend(redis_server.url, timeout=5) as one,
        RedisBackend(redis_server.url, timeout=5) as other,
    ):
        limiters = [RateLimiter(each.counters) for each in (one, other)]
        apps = []
        for limiter in limiters:
            app = FastAPI()
            app.add_middleware(RateLimitMiddleware)
            app.get("/", dependencies=[Depends(limiter("1/hour"))])(lambda: "ok")
            apps.append(app)
        clients = [await client_of(app) for app in apps]
        assert [(await client.get("/")).status_code for client in clients * 2] == [200, 429, 429, 429]
        await limiters[0].reset("127.0.0.1")
        async with asyncio.timeout(1):
            while (await clients[1].get("/")).status_code != 200:
                await asyncio.sleep(0.01)


async def test_a_raised_limit_lets_the_client_in_at_once(redis_server: RedisServer, client_of: Open) -> None:
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        rule = RateLimiter(backend.counters)("1/hour")
        app = FastAPI()
        app.add_middleware(RateLimitMiddleware)
        app.get("/", dependencies=[Depends(rule)])(lambda: "ok")
        client = await client_of(app)
        assert [(await client.get("/")).status_code for _ in range(3)] == [200, 429, 429]
        rule.change("2/hour")
        assert [(await client.get("/")).status_code for _ in range(3)] == [200, 429, 429]


async def test_what_is_given_back_lets_the_client_in_at_the_other_workers(redis_server: RedisServer) -> None:
    request = Request({"type": "http", "client": ("1.2.3.4", 1), "headers": [], "path": "/"})
    async with (
        RedisBackend(redis_server.url, timeout=5) as one,
        RedisBackend(redis_server.url, timeout=5) as other,
    ):
        tokens = [RateLimiter(each.counters)("100/hour", name="tokens") for each in (one, other)]
        async with tokens[0].reserve(request, 100) as reservation:
            for _ in range(3):
                assert not (await tokens[1].hit(request, cost=50)).admitted
            reservation.settle(10)
        async with asyncio.timeout(1):
            while not (await tokens[1].hit(request, cost=50)).admitted:
                await asyncio.sleep(0.01)


async def test_a_ban_costs_a_few_commands_and_who_is_banned_one_of_each_worker(
    redis_server: RedisServer, client_of: Open
) -> None:
    ban = Ban(after=3, within=3600, first=1000)
    async with (
        RedisBackend(redis_server.url, timeout=5) as one,
        RedisBackend(redis_server.url, timeout=5) as other,
    ):
        apps = []
        for backend in (one, other):
            app = FastAPI()
            app.add_middleware(RateLimitMiddleware)
            limiter = RateLimiter(backend.counters)
            app.get("/", dependencies=[Depends(limiter("1/minute", ban=ban))])(lambda: "ok")
            apps.append(app)
        clients = [await client_of(app) for app in apps]
        assert (await clients[0].get("/")).status_code == 200
        before = _scripts(redis_server)
        order = [clients[1], *[clients[0]] * 3]
        waits = [int((await client.get("/")).headers["retry-after"]) for client in order]
        assert [wait <= 60 for wait in waits] == [True, True, True, False]
        assert _scripts(redis_server) - before <= 9  # two that ask, four that count, three that ban
        for client in clients:
            async with asyncio.timeout(1):
                while int((refused := await client.get("/")).headers["retry-after"]) <= 60:
                    await asyncio.sleep(0.01)
            assert 990 < int(refused.headers["retry-after"]) <= 1000
        before = _scripts(redis_server)
        for _ in range(1000):
            for app in apps:
                assert await _status(app, "/") == 429
        assert _scripts(redis_server) - before <= 2  # one of each worker
        for client in clients:
            assert 980 < int((await client.get("/")).headers["retry-after"]) <= 1000
        await limiter.reset("127.0.0.1")
        async with asyncio.timeout(1):
            while (await clients[0].get("/")).status_code != 200:
                await asyncio.sleep(0.01)


async def test_who_asks_elsewhere_while_a_ban_is_imposed_hears_of_the_whole_of_it(
    redis_server: RedisServer, client_of: Open
) -> None:
    imposing, impose = asyncio.Event(), asyncio.Event()

    class Slow:
        """Counters of a worker that is held up before the last of its commands."""

        def __init__(self, counters: Counters) -> None:
            self.reset = counters.reset
            self._weigh = counters.weigh

        async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
            if force and charges[0].cost > 1:
                imposing.set()
                await impose.wait()
            return await self._weigh(*charges, force=force)

    ban = Ban(after=1, within=3600, first=1000)
    async with (
        RedisBackend(redis_server.url, timeout=5) as one,
        RedisBackend(redis_server.url, timeout=5) as other,
    ):
        clients = []
        for counters in (Slow(one.counters), other.counters):
            app = FastAPI()
            app.add_middleware(RateLimitMiddleware)
            app.get("/", dependencies=[Depends(RateLimiter(counters)("1/minute", ban=ban))])(lambda: "ok")
            clients.append(await client_of(app))
        assert [(await clients[0].get("/")).status_code for _ in range(2)] == [200, 429]
        banned = asyncio.create_task(clients[0].get("/"))
        await imposing.wait()
        assert (await clients[1].get("/")).status_code == 429
        impose.set()
        assert (await banned).headers["retry-after"] == "1000"
        async with asyncio.timeout(1):
            while int((await clients[1].get("/")).headers["retry-after"]) < 990:
                await asyncio.sleep(0.01)


async def test_bans_grow_where_refusals_are_remembered(redis_server: RedisServer, client_of: Open) -> None:
    ban = Ban(after=3, within=3600, first=1, factor=1000)
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        app = FastAPI()
        app.add_middleware(RateLimitMiddleware)
        limiter = RateLimiter(backend.counters)
        rule = limiter("100/second", burst=1, ban=ban)
        app.get("/", dependencies=[Depends(rule)])(lambda: "ok")
        client = await client_of(app)
        async with asyncio.timeout(10):
            while (await limiter.peek("127.0.0.1")).retry_after != 1:
                await client.get("/")
            while (await client.get("/")).status_code == 429:
                await asyncio.sleep(0.01)
            while int((refused := await client.get("/")).headers.get("retry-after", "0")) <= 1:
                pass
        assert 990 < int(refused.headers["retry-after"]) <= 1000


def _scripts(server: RedisServer) -> int:
    return _calls(server, "evalsha") + _calls(server, "eval")


async def test_what_is_given_back_to_who_has_some_left_lets_in_what_was_too_large(
    redis_server: RedisServer,
) -> None:
    request = Request({"type": "http", "client": ("1.2.3.4", 1), "headers": [], "path": "/"})
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        tokens = RateLimiter(backend.counters)("100/hour", name="tokens")
        async with tokens.reserve(request, 60) as reservation:
            assert not (await tokens.hit(request, cost=50)).admitted
            reservation.settle(10)
        assert (await tokens.hit(request, cost=50)).admitted


class _Wire:
    """A server that refuses, and whose replies to one worker are under way for as long as the test wants."""

    def __init__(self) -> None:
        self.reply = b"0 0 3600000000 3600000000"
        self.arrives = asyncio.Event()
        self.arrives.set()

    async def call(self, *command: Any) -> Any:
        reply = self.reply
        await self.arrives.wait()
        return reply


async def test_what_is_given_back_of_one_limit_has_nobody_ask_again_about_another(
    redis_server: RedisServer,
) -> None:
    app, route = Limit("app", 100, 3600, 100), Limit("route", 1, 3600, 1)
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        await backend.counters.weigh(Charge("me", (route,)))
        await backend.counters.weigh(Charge("me", (route,)))
        before = _commands(redis_server)
        for _ in range(20):
            await backend.counters.weigh(Charge("me", (app,)))
            [verdict] = await backend.counters.weigh(Charge("me", (route,)))
            assert not verdict.admitted
            await backend.counters.weigh(Charge("me", (app,), -1), force=True)
        assert _commands(redis_server) - before == 2 * 20


async def test_a_refusal_that_arrives_after_the_reset_is_not_remembered() -> None:
    limits = (Limit("a", 1, 3600, 1),)
    bus, wire, other_wire = MemoryBus(), _Wire(), _Wire()
    counters = RedisCounters(wire, prefix="", bus=bus)  # type: ignore[arg-type] # all that is asked of one
    other = RedisCounters(other_wire, prefix="", bus=bus)  # type: ignore[arg-type] # as above
    await counters.weigh(Charge("somebody", limits))
    wire.arrives.clear()
    asking = asyncio.create_task(counters.weigh(Charge("me", limits)))
    await asyncio.sleep(0)
    wire.reply = b"1 0 3600000000 0"
    await other.reset("me", limits)
    for _ in range(3):  # until it was heard
        await asyncio.sleep(0)
    wire.arrives.set()
    assert not (await asking)[0].admitted
    assert (await counters.weigh(Charge("me", limits)))[0].admitted
    await counters.close()
