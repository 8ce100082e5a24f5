"""Apps as people have them: two in a process, mounted, on many loops, without a lifespan, overridden."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    Claims,
    ConfigurationError,
    Health,
    JWTAuth,
    MemoryBackend,
    NDJSONResponse,
    ProblemError,
    ProblemMiddleware,
    Problems,
    RateLimiter,
    RateLimitMiddleware,
    RedisBackend,
    RequestLoggingMiddleware,
    Resources,
    Tasks,
    problem,
)
from fastapi_prodkit._routes import RouteTable
from tests.whole.everything import SECRET, Everything, auth

ADA = {"Authorization": f"Bearer {auth.issue('ada', ttl=600)}"}


def _client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def _left(answer: httpx2.Response) -> str:
    return str(answer.headers["ratelimit"].split(";r=")[1].split(";")[0])


# --- two apps, many loops ---


def test_two_apps_in_one_process_share_nothing() -> None:
    one, two = Everything(), Everything()
    with _client(one.app) as first, _client(two.app) as second:
        assert [first.get("/v1/items/1").json()["computed"] for _ in range(2)] == [1, 1]
        assert "fwd=miss" in second.get("/v1/items/1").headers["cache-status"]
        assert [_left(first.get("/v1/limited")) for _ in range(2)] == ["49", "48"]
        assert _left(second.get("/v1/limited")) == "49"
        assert second.post("/v1/work?seconds=0").status_code == 202


def test_one_app_lives_on_many_event_loops_one_after_another(redis_url: str) -> None:
    everything = Everything(redis_url, timeout=5.0)
    left = []
    for _ in range(3):
        with _client(everything.app) as client:
            assert client.get("/v1/items/1").json()["computed"] == 1
            left.append(_left(client.get("/v1/limited")))
            assert client.get("/v1/setting").json() == "green"
            assert client.post("/v1/work?seconds=0").status_code == 202
            assert client.get("/health/ready").status_code == 200
    assert left == ["49", "48", "47"]


def test_threads_that_read_the_routes_of_one_app_at_a_time_all_find_theirs() -> None:
    app = FastAPI()
    for number in range(20):
        app.add_api_route(f"/{number}/{{each}}", lambda each: each)
    routes: list[Any] = app.router.routes[-20::7]
    scopes = [{"route": each, "path": each.path, "root_path": ""} for each in routes]

    def ask(table: RouteTable) -> list[str | None]:
        return [table.template(scope) for scope in scopes]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            tables = [table for table in [RouteTable(app) for _ in range(100)] for _ in range(4)]
            found = list(threads.map(ask, tables))
    finally:
        sys.setswitchinterval(before)
    assert found == [[each.path for each in routes]] * len(tables)


def test_one_backend_is_for_one_event_loop_at_a_time(redis_url: str) -> None:
    backend = RedisBackend(redis_url, timeout=5.0)
    one, two = FastAPI(lifespan=Resources(backend)), FastAPI(lifespan=Resources(backend))
    with TestClient(one), pytest.raises(ConfigurationError, match="one for each that runs"), TestClient(two):
        pass
    with TestClient(two):
        pass


def test_without_a_lifespan_requests_are_answered_all_the_same() -> None:
    client = _client(Everything().app)  # not entered, as many tests do
    assert client.get("/v1/items/1").status_code == 200
    assert "hit" in client.get("/v1/items/1").headers["cache-status"]
    assert _left(client.get("/v1/limited")) == "49"
    assert client.get("/v1/me", headers=ADA).json() == "ada"
    assert client.get("/nowhere").json() == {"type": "about:blank", "title": "Not Found", "status": 404}
    assert client.get("/v1/boom").status_code == 500
    assert client.get("/v1/lines").text == "0\n1\n2\n"
    assert client.get("/health/ready").status_code == 200


def test_what_needs_a_lifespan_says_so() -> None:
    client = TestClient(Everything().app)
    with pytest.raises(ConfigurationError, match="with TestClient"):
        client.get("/v1/setting")
    with pytest.raises(ConfigurationError, match="Resources"):
        client.post("/v1/work?seconds=0")


def test_a_backend_that_was_not_entered_says_so_in_the_log_as_well(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = _client(Everything(redis_url).app)
    assert client.get("/v1/often").status_code == 500
    assert "Resources(backend)" in caplog.text  # the mend, though texts of exceptions are not logged


# --- mounted and nested ---


def _sub(records: list[dict[str, Any]], *, depth: int) -> FastAPI:
    """A shop with routes of its own below `depth` routers, mounted in an app with every middleware."""
    backend = MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)
    router = APIRouter()

    @router.get("/items/{item_id}", dependencies=[Depends(limiter("10/hour"))])
    @cache(ttl=60)
    async def item(item_id: int) -> int:
        return item_id

    @router.get("/users/{user_id}", dependencies=[Depends(limiter("10/hour"))])
    async def user(user_id: int) -> int:
        raise LookupError(user_id)

    @problem(status=410, type="gone-for-good")
    class GoneError(Exception):
        """It was here once."""

    @router.get("/gone")
    async def gone() -> None:
        raise GoneError

    for level in range(depth):
        outer = APIRouter(prefix=f"/r{level}")
        outer.include_router(router, prefix="/in")
        router = outer
    sub = FastAPI()
    sub.include_router(router)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(RequestLoggingMiddleware, sink=lambda line, level: records.append(json.loads(line)))
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(CacheMiddleware)
    app.mount("/shops/{shop}", sub)
    return app


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_mounted_app_is_cached_limited_answered_and_logged(depth: int) -> None:
    records: list[dict[str, Any]] = []
    prefix = "".join(f"/r{level}/in" for level in reversed(range(depth)))
    with _client(_sub(records, depth=depth)) as client:
        base = f"/shops/north{prefix}"
        answers = [client.get(base + path) for path in ("/items/1", "/items/1", "/items/2", "/items/x")]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 422]
        assert "hit" in answers[1].headers["cache-status"]
        assert [_left(answer) for answer in answers] == ["9", "8", "7", "6"]  # one budget for the route
        assert "miss" in client.get(f"/shops/south{prefix}/items/1").headers["cache-status"]
        broken = client.get(base + "/users/1")
        gone = client.get(base + "/gone")
        nowhere = client.get(base + "/nowhere")
    assert (broken.status_code, gone.status_code, nowhere.status_code) == (500, 410, 404)
    for answer in (answers[3], broken, gone, nowhere):
        assert answer.headers["content-type"] == "application/problem+json"
    assert _left(broken) == "9"
    assert gone.json()["type"].endswith("gone-for-good")
    template = "/shops/{shop}" + prefix
    assert [record["http.route"] for record in records][:4] == [template + "/items/{item_id}"] * 4
    assert records[-3]["http.route"] == template + "/users/{user_id}"


@pytest.mark.parametrize("hosts", [("a.example", "b.example"), ("{tenant}.example",)])
def test_the_same_path_on_another_host_is_another_route(hosts: tuple[str, ...]) -> None:
    backend = MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)

    def site() -> FastAPI:
        sub = FastAPI()

        @sub.get("/orders", dependencies=[Depends(limiter("10/hour"))])
        @cache(ttl=60)
        async def orders() -> int:
            return next(answers)

        return sub

    answers = iter(range(10))
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(CacheMiddleware)
    app.add_middleware(RateLimitMiddleware)
    for host in hosts:
        app.host(host, site())
    with TestClient(app) as client:
        seen = [
            client.get("/orders", headers={"Host": host})
            for host in ("a.example", "b.example", "a.example", "b.example")
        ]
    assert [answer.json() for answer in seen] == [0, 1, 0, 1]
    own_budgets = len(hosts) == 2
    assert [_left(answer) for answer in seen] == (
        ["9", "9", "8", "8"] if own_budgets else ["9", "8", "7", "6"]
    )


# --- each alone ---


def _bare() -> FastAPI:
    app = FastAPI()

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("a secret")

    @app.get("/fine")
    async def fine() -> int:
        return 1

    return app


def test_logging_alone() -> None:
    lines: list[dict[str, Any]] = []
    app = _bare()
    app.add_middleware(RequestLoggingMiddleware, sink=lambda line, level: lines.append(json.loads(line)))
    with _client(app) as client:
        statuses = [client.get(path).status_code for path in ("/fine", "/boom", "/nowhere")]
    assert statuses == [200, 500, 404]
    assert [line["http.response.status_code"] for line in lines] == statuses


def test_problems_alone() -> None:
    app = _bare()
    app.add_middleware(ProblemMiddleware)
    with _client(app) as client:
        assert [client.get(path).json()["status"] for path in ("/boom", "/nowhere")] == [500, 404]


def test_the_cache_alone() -> None:
    app, cache = _bare(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/cached")
    @cache(ttl=60)
    async def cached() -> int:
        return 1

    with _client(app) as client:
        assert "hit" in [client.get("/cached").headers["cache-status"] for _ in range(2)][1]


def test_the_limiter_alone() -> None:
    app, limiter = _bare(), RateLimiter(MemoryBackend().counters)
    app.add_middleware(RateLimitMiddleware)

    @app.get("/limited", dependencies=[Depends(limiter("1/hour"))])
    async def limited() -> int:
        return 1

    with _client(app) as client:
        answers = [client.get("/limited") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["detail"]


def test_auth_health_tasks_and_streams_alone() -> None:
    app, tasks = FastAPI(), Tasks()
    done: list[str] = []
    app.router.lifespan_context = Resources(tasks)
    alone = JWTAuth(SECRET, algorithms=["HS256"])
    app.include_router(Health())

    @app.get("/me")
    async def me(claims: Claims = Depends(alone), jobs: Tasks = Depends(tasks)) -> str:
        jobs.spawn(done.append, claims.subject)
        return claims.subject

    @app.get("/lines")
    async def lines() -> NDJSONResponse:
        return NDJSONResponse(range(3))

    with _client(app) as client:
        assert client.get("/me").status_code == 401
        assert client.get("/me", headers=ADA).json() == "ada"
        assert client.get("/lines").text == "0\n1\n2\n"
        assert client.get("/health/ready").json()["status"] == "pass"
    assert done == ["ada"]


@pytest.mark.parametrize("missing", [CacheMiddleware, RateLimitMiddleware])
def test_a_missing_middleware_stops_the_start_with_the_mend(missing: type) -> None:
    app, backend = FastAPI(), MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)
    for each in (CacheMiddleware, RateLimitMiddleware):
        if each is not missing:
            app.add_middleware(each)

    @app.get("/", dependencies=[Depends(limiter("1/hour"))])
    @cache(ttl=60)
    async def route() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=missing.__name__), TestClient(app):
        pass


@pytest.mark.parametrize("middleware", [CacheMiddleware, ProblemMiddleware, RateLimitMiddleware])
def test_what_cannot_stand_around_an_app_says_so(middleware: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{middleware.__name__} .*add_middleware"):
        middleware(FastAPI())


@pytest.mark.parametrize("wrong", [{}, {"tags": ["items"]}, {"tag": ["items"]}])
async def test_forgetting_nothing_in_particular_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="tag"):
        await Cache().invalidate(**wrong)


# --- overridden ---


def test_everything_that_is_injected_can_be_overridden() -> None:
    everything = Everything()
    spawned: list[str] = []

    class Recorder:
        def spawn(self, function: Callable[..., object], *args: object) -> None:
            spawned.append(function.__name__)

    overrides: dict[Any, Callable[..., Any]] = {
        auth: lambda: Claims("grace"),
        everything.tasks: lambda: Recorder(),
        everything.settings: lambda: {"colour": "red"},
    }
    everything.app.dependency_overrides.update(overrides)
    with _client(everything.app) as client:
        assert client.get("/v1/me").json() == "grace"
        everything.app.dependency_overrides[auth] = lambda: Claims("ada")
        assert client.get("/v1/me").json() == "ada"  # nobody gets what was cached for another
        assert client.get("/v1/setting").json() == "red"
        assert client.post("/v1/work?seconds=9").status_code == 202
    assert spawned == ["_work"]


def test_a_limit_that_is_overridden_limits_nobody() -> None:
    app, limiter = FastAPI(), RateLimiter(MemoryBackend().counters)
    app.add_middleware(RateLimitMiddleware)
    limit = limiter("1/hour")

    @app.get("/", dependencies=[Depends(limit)])
    async def route() -> int:
        return 1

    app.dependency_overrides[limit] = lambda: None
    with _client(app) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200] * 3


async def test_a_problem_of_a_dependency_of_a_cached_and_limited_route_is_answered_as_one() -> None:
    async def closed() -> AsyncIterator[None]:
        raise ProblemError(451, "not here", type="closed", country="XX")
        yield

    backend = MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    app.add_middleware(ProblemMiddleware, problems=Problems(base="https://shop.example/problems/"))
    app.add_middleware(RateLimitMiddleware)

    @app.get("/", dependencies=[Depends(limiter("2/hour")), Depends(closed)])
    @cache(ttl=60)
    async def route() -> int:
        return 1

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [429, 451, 451]
    told = next(answer for answer in answers if answer.status_code == 451)
    assert told.json()["type"] == "https://shop.example/problems/closed"
    assert told.json()["country"] == "XX"
    assert "ratelimit" in told.headers
