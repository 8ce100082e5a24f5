"""What somebody may try to get past a limit, and what must not lock anybody out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Body, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketException
from starlette.requests import HTTPConnection
from starlette.routing import Host
from starlette.types import Message

from fastapi_prodkit import (
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RedisBackend,
)
from fastapi_prodkit.errors import UnavailableError
from fastapi_prodkit.rate_limit import Ban
from fastapi_prodkit.typing import Backend, Charge, Limit, Verdict
from tests.servers import RedisServer

from .conftest import Open


async def _endpoint() -> str:
    return "ok"


async def _request(app: FastAPI, path: str, *, address: str = "1.2.3.4") -> list[Message]:
    """What the server is sent; raises what the server sees raised."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "root_path": ""}
    await app({**scope, "headers": [], "client": (address, 1)}, asyncio.Queue[Message]().get, send)
    return sent


async def test_who_was_refused_is_still_weighed_by_what_the_path_says(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    def tenant(connection: HTTPConnection) -> str:
        return f"tenant {connection.path_params.get('tenant')}"

    limits = [Depends(limiter("10/minute")), Depends(limiter("1/minute", key=tenant))]
    app.get("/{tenant}", dependencies=limits)(_endpoint)
    client = await client_of(app)
    assert [(await client.get("/a")).status_code for _ in range(4)] == [200, 429, 429, 429]
    assert (await client.get("/b")).status_code == 200


async def test_who_was_refused_at_one_host_is_not_weighed_by_its_limit_at_another(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    inner = FastAPI()
    inner.get("/list", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    app.router.routes.append(Host("a.test", app=inner))
    app.get("/list")(_endpoint)
    client = await client_of(app)
    a = [(await client.get("/list", headers={"host": "a.test"})).status_code for _ in range(3)]
    assert (a, (await client.get("/list")).status_code) == ([200, 429, 429], 200)


@pytest.mark.parametrize("cost", [-10, -0.5, float("nan"), "5", None])
async def test_a_computed_cost_never_gives_anything_back(
    app: FastAPI, limiter: RateLimiter, client_of: Open, cost: Any
) -> None:
    app.get("/paid", dependencies=[Depends(limiter("10/minute", name="paid", cost=lambda _: 5))])(_endpoint)
    app.get("/free", dependencies=[Depends(limiter("10/minute", name="paid", cost=lambda _: cost))])(
        _endpoint
    )
    client = await client_of(app)
    await client.get("/paid")
    assert (await client.get("/free")).status_code == 500
    assert (await limiter.peek("127.0.0.1")).remaining == 5


async def test_a_cost_beyond_all_numbers_is_refused(backend: Backend, client_of: Open) -> None:
    limiter = RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limit = limiter("10/minute", name="huge", cost=lambda _: int("9" * 400))

    async def settled(request: Request) -> str:
        async with limit.reserve(request, 1) as reservation:
            reservation.settle(int("9" * 400))
        return "ok"

    app.get("/cost", dependencies=[Depends(limit)])(_endpoint)
    app.get("/settled")(settled)
    client = await client_of(app)
    answers = [await client.get(path) for path in ("/cost", "/settled", "/settled")]
    assert [each.status_code for each in answers] == [429, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 1_000_000


async def test_a_failing_key_of_a_route_with_a_body_is_an_error_of_the_server(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    def broken(connection: HTTPConnection) -> str:
        raise KeyError("tenant")

    @app.post("/", dependencies=[Depends(limiter("1/minute", key=broken))])
    async def post(body: dict[str, str] = Body()) -> str:
        return "ok"

    client = await client_of(app)
    assert (await client.post("/", json={})).status_code == 500


async def test_a_limit_that_is_called_counts_by_the_template(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limit = limiter("1/minute")

    @app.get("/items/{item}")
    async def get(item: int, request: Request) -> str:
        await limit(request)
        return "ok"

    client = await client_of(app)
    assert [(await client.get(f"/items/{item}")).status_code for item in range(3)] == [200, 429, 429]
    assert len(limit.places) == 1


async def test_two_limits_that_are_called_do_not_share_a_count(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limits = [limiter("25/minute"), limiter("50/minute")]

    @app.get("/")
    async def get(request: Request) -> str:
        for limit in limits:
            await limit(request)
        return "ok"

    client = await client_of(app)
    answers = [await client.get("/") for _ in range(26)]
    assert [each.status_code for each in answers] == [200] * 25 + [429]
    assert answers[0].headers["ratelimit"] == '"per-minute";r=24;t=3, "per-minute-2";r=49;t=2'


async def test_several_limits_of_a_route_may_count_by_outcome(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    everybody = limiter("5/minute", statuses={401}, key=lambda _: "everybody")
    each = limiter("3/minute", statuses={401})

    @app.post("/login", dependencies=[Depends(everybody), Depends(each)])
    async def login() -> None:
        raise HTTPException(401)

    client = await client_of(app)
    answer = await client.post("/login")
    assert answer.status_code == 401
    assert answer.headers["ratelimit"] == '"per-minute";r=4;t=12, "per-minute-2";r=2;t=20'


async def test_a_handshake_that_the_app_turns_down_counts_as_the_403_that_it_becomes(
    app: FastAPI, limiter: RateLimiter
) -> None:
    @app.websocket("/", dependencies=[Depends(limiter("2/hour", statuses={403}))])
    async def guess(websocket: WebSocket) -> None:
        raise WebSocketException(1008)

    types = []
    for _ in range(4):
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/", "query_string": b"", "root_path": "", "headers": []}
        extensions: dict[str, object] = {"websocket.http.response": {}}
        await app({**scope, "client": ("1.2.3.4", 1), "extensions": extensions}, receive, send)
        types.append(sent[0].get("status", sent[0]["type"]))
    assert types == ["websocket.close", "websocket.close", 429, 429]


async def test_a_mounted_app_may_have_a_middleware_of_its_own(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    inner = FastAPI()
    inner.add_middleware(RateLimitMiddleware)
    app.add_middleware(ProblemMiddleware)
    inner.get("/list", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    app.mount("/inner", inner)
    assert (await _request(app, "/inner/list"))[0]["status"] == 200


async def test_a_body_is_counted_once_in_a_mounted_app_with_a_middleware_of_its_own(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    inner = FastAPI()
    inner.add_middleware(RateLimitMiddleware)

    @inner.post("/items", dependencies=[Depends(limiter("9/minute", name="writes"))])
    async def post(body: dict[str, str] = Body()) -> str:
        return "ok"

    app.mount("/inner", inner)
    answer = await (await client_of(app)).post("/inner/items", json={})
    assert [each.split(";t=")[0] for each in answer.headers.get_list("ratelimit")] == ['"writes";r=8']


async def test_many_that_are_refused_at_once_earn_one_ban(backend: Backend, client_of: Open) -> None:
    limiter = RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limit = limiter("1/minute", ban=Ban(after=5, first=100))
    app.get("/", dependencies=[Depends(limit)])(_endpoint)
    client = await client_of(app)
    await client.get("/")
    answers = await asyncio.gather(*(client.get("/") for _ in range(100)))
    assert max(int(each.headers["retry-after"]) for each in answers) == 100
    assert 98 <= int((await client.get("/")).headers["retry-after"]) <= 100


async def test_a_short_lease_is_renewed_beside_a_long_one(limiter: RateLimiter, app: FastAPI) -> None:
    running, done = asyncio.Semaphore(0), asyncio.Event()
    limits = {"/long": limiter.concurrent(1, lease=60), "/short": limiter.concurrent(1, lease=0.3)}

    async def wait() -> None:
        running.release()
        await done.wait()

    requests = []
    for path, limit in limits.items():
        app.get(path, dependencies=[Depends(limit)])(wait)
        requests.append(asyncio.create_task(_request(app, path)))
        await running.acquire()
        await asyncio.sleep(0)
    await asyncio.sleep(0.5)
    assert (await limits["/short"].peek("1.2.3.4")).remaining == 0
    done.set()
    await asyncio.gather(*requests)
    assert (await limits["/short"].peek("1.2.3.4")).remaining == 1


class _Away(MemoryBackend):
    """Counters that can be away, or slow."""

    away = False

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.charged, self.replies = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.replies.set()

    async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
        await asyncio.sleep(0)
        self.asked.set()
        await self.answers.wait()
        if self.away:
            raise UnavailableError("away")
        verdicts = await self.counters.weigh(*charges, force=force)
        self.charged.set()
        await self.replies.wait()
        return verdicts

    async def reset(self, subject: str, limits: tuple[Limit, ...]) -> None:
        if self.away:
            raise UnavailableError("away")
        await self.counters.reset(subject, limits)


async def test_who_ran_during_an_outage_holds_nothing_after_it(client_of: Open) -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter.concurrent(1))])(_endpoint)
    client = await client_of(app)
    place.away = True
    assert (await client.get("/")).status_code == 200
    place.away = False
    assert [(await client.get("/")).status_code for _ in range(2)] == [200, 200]


async def test_a_ban_that_is_earned_during_an_outage_is_no_error(client_of: Open) -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter("1/minute", ban=Ban(after=2, first=100)))])(_endpoint)
    client = await client_of(app)
    place.away = True
    answers = [await client.get("/") for _ in range(6)]
    assert [each.status_code for each in answers] == [200] + [429] * 5


async def test_a_ban_and_a_debt_of_an_outage_are_as_long_after_it(client_of: Open) -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    tokens = limiter("100/hour", name="tokens")
    app.get("/banned", dependencies=[Depends(limiter("1/minute", ban=Ban(after=2, first=1000)))])(_endpoint)

    @app.get("/indebted")
    async def indebted(request: Request) -> str:
        async with tokens.reserve(request, 50) as reservation:
            reservation.settle(1000)
        return "ok"

    client = await client_of(app)
    place.away = True
    for _ in range(6):
        banned = await client.get("/banned")
    await client.get("/indebted")
    for away in (True, False, False):
        place.away = away
        banned, refused = await client.get("/banned"), await client.get("/indebted")
        assert 990 <= int(banned.headers["retry-after"]) <= 1000
        assert 34_190 <= int(refused.headers["retry-after"]) <= 34_200


async def test_who_gives_up_while_an_outage_is_carried_over_takes_nothing_of_it_away(
    client_of: Open,
) -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter("5/hour"))])(_endpoint)
    client = await client_of(app)
    place.away = True
    assert {(await client.get("/")).status_code for _ in range(5)} == {200}
    place.away = False
    place.asked.clear()
    place.answers.clear()
    await _give_up(app, when=place.asked)
    place.answers.set()
    assert (await client.get("/")).status_code == 429


async def test_who_gives_up_before_the_decision_is_known_keeps_no_place(client_of: Open) -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter.concurrent(1))])(_endpoint)
    client = await client_of(app)
    place.replies.clear()
    await _give_up(app, when=place.charged)
    place.replies.set()
    assert (await client.get("/")).status_code == 200


async def test_who_is_cancelled_twice_keeps_no_place() -> None:
    place = _Away()
    limiter = RateLimiter(place)
    app, running = FastAPI(), asyncio.Event()
    app.add_middleware(RateLimitMiddleware)
    limits = [limiter.concurrent(1, lease=0.2), limiter.concurrent(1, lease=0.2, key=lambda _: "all")]

    @app.get("/", dependencies=[Depends(each) for each in limits])
    async def wait() -> None:
        running.set()
        await asyncio.Event().wait()

    request = asyncio.create_task(_request(app, "/"))
    await running.wait()
    request.cancel()
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await asyncio.sleep(0.5)
    assert (await limits[0].peek("1.2.3.4")).remaining == 1
    assert (await limits[1].peek("all")).remaining == 1


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving"])
@pytest.mark.parametrize(
    "command", [("SET", "nan nan nan"), ("SET", "abc"), ("LPUSH", "nan nan nan"), ("ZADD", "inf", "a")]
)
async def test_what_others_wrote_in_the_place_of_a_count_lets_nobody_through(
    redis_server: RedisServer, client_of: Open, algorithm: Any, command: tuple[str, ...]
) -> None:
    async with RedisBackend(redis_server.url, timeout=2.0) as backend:
        limiter = RateLimiter(backend.counters)
        app = FastAPI()
        app.add_middleware(RateLimitMiddleware)
        app.get("/", dependencies=[Depends(limiter("3/minute", algorithm=algorithm))])(_endpoint)
        client = await client_of(app)
        await client.get("/")
        key = redis_server.command("KEYS", "*").split("\r\n")[2]
        redis_server.command("DEL", key)
        redis_server.command(command[0], key, *command[1:])
        statuses = [(await client.get("/")).status_code for _ in range(5)]
        assert statuses[0] == 200
        assert set(statuses[3:]) == {429}


async def _give_up(app: FastAPI, *, when: asyncio.Event) -> None:
    """Make a request, and leave at that moment."""
    request = asyncio.create_task(_request(app, "/", address="127.0.0.1"))
    await when.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
