"""Who was just refused is weighed before the route is looked for, and nothing else changes by it."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import HTTPConnection

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware, RequestLoggingMiddleware
from fastapi_prodkit.rate_limit import by_header
from fastapi_prodkit.testing import Clock
from tests.request_logging.lines import Lines

from .conftest import Open


class Work:
    """Counts how often the dependencies of a route ran."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self) -> None:
        self.done += 1


def _app(limiter: RateLimiter, work: Work, **options: object) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    rule = limiter("2/minute", **options)  # type: ignore[arg-type] # any option
    router = APIRouter(prefix="/v1")
    router.get("/items/{item}", dependencies=[Depends(work), Depends(rule)])(lambda: "ok")
    app.include_router(router)
    app.state.rule = rule
    return app


async def test_a_client_that_is_over_its_limit_costs_no_work_the_second_time(client_of: Open) -> None:
    work = Work()
    client = await client_of(_app(RateLimiter(MemoryBackend().counters), work))
    answers = [await client.get("/v1/items/1") for _ in range(10)]
    assert [each.status_code for each in answers] == [200, 200] + [429] * 8
    assert work.done == 3
    assert {each.headers["ratelimit-policy"] for each in answers} == {'"per-minute";q=2;w=60'}
    assert answers[3].json() == answers[2].json()
    assert answers[9].headers["retry-after"] == answers[2].headers["retry-after"]


async def test_the_access_record_of_a_refusal_before_the_router_names_the_route(client_of: Open) -> None:
    lines = Lines()
    app = _app(RateLimiter(MemoryBackend().counters), Work())
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    client = await client_of(app)
    answers = [await client.get("/v1/items/1") for _ in range(5)]
    assert [each.status_code for each in answers] == [200, 200] + [429] * 3
    assert {each["http.route"] for each in lines.records} == {"/v1/items/{item}"}


async def test_others_on_the_same_path_are_weighed_where_they_ever_were(client_of: Open) -> None:
    work = Work()
    app = _app(RateLimiter(MemoryBackend().counters), work, key=by_header("x-user"))
    client = await client_of(app)
    for _ in range(5):
        await client.get("/v1/items/1", headers={"x-user": "ada"})
    answers = [await client.get("/v1/items/1", headers={"x-user": "bob"}) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"per-minute";r=1;')
    assert (await client.get("/v1/items/1")).status_code == 500


async def test_the_same_client_on_another_path_of_the_route_is_refused_too(client_of: Open) -> None:
    client = await client_of(_app(RateLimiter(MemoryBackend().counters), Work()))
    statuses = [(await client.get(f"/v1/items/{number}")).status_code for number in (1, 2, 3, 3, 4, 3)]
    assert statuses == [200, 200, 429, 429, 429, 429]


async def test_when_its_time_has_come_the_client_is_charged_once(client_of: Open) -> None:
    clock = Clock()
    client = await client_of(_app(RateLimiter(MemoryBackend(clock=clock).counters), Work()))
    for _ in range(4):
        answer = await client.get("/v1/items/1")
    clock.advance(60)
    answers = [await client.get("/v1/items/1") for _ in range(3)]
    assert answer.status_code == 429
    assert [each.status_code for each in answers] == [200, 200, 429]


async def test_an_override_and_an_exemption_hold_there_too(client_of: Open) -> None:
    def exempt(connection: HTTPConnection) -> bool:
        return "x-probe" in connection.headers

    app = _app(RateLimiter(MemoryBackend().counters), Work(), exempt=exempt)
    client = await client_of(app)
    for _ in range(4):
        await client.get("/v1/items/1")
    assert (await client.get("/v1/items/1", headers={"x-probe": ""})).status_code == 200
    app.dependency_overrides[app.state.rule] = lambda: None
    assert (await client.get("/v1/items/1")).status_code == 200


async def test_who_has_no_key_and_is_exempt_passes_there_too(client_of: Open) -> None:
    app = _app(
        RateLimiter(MemoryBackend().counters),
        Work(),
        key=by_header("x-user"),
        exempt=lambda connection: "x-probe" in connection.headers,
    )
    client = await client_of(app)
    for _ in range(4):
        await client.get("/v1/items/1", headers={"x-user": "ada"})
    assert (await client.get("/v1/items/1", headers={"x-probe": ""})).status_code == 200


async def test_a_refusal_by_one_host_says_nothing_about_another(client_of: Open) -> None:
    limiter = RateLimiter(MemoryBackend().counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    for host, limit in (("a.test", "1/hour"), ("b.test", "3/hour")):
        inner = FastAPI()
        inner.get("/", dependencies=[Depends(limiter(limit))])(lambda: "ok")
        app.host(host, inner)
    client = await client_of(app)
    statuses = [
        (await client.get("/", headers={"host": host})).status_code
        for host in ("a.test", "a.test", "a.test", "b.test", "b.test", "b.test", "b.test")
    ]
    assert statuses == [200, 429, 429, 200, 200, 200, 429]


async def test_every_refusal_is_told_and_counted(client_of: Open) -> None:
    told = []
    limiter = RateLimiter(MemoryBackend().counters, on_refusal=lambda rule, connection: told.append(rule))
    app = _app(limiter, Work())
    client = await client_of(app)
    for _ in range(7):
        await client.get("/v1/items/1")
    assert app.state.rule.refused == 5
    assert told == [app.state.rule] * 5
