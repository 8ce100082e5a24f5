"""Which requests share a budget."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import (
    ConfigurationError,
    MemoryBackend,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
)

from .conftest import Open, started


class Item(BaseModel):
    name: str


async def _endpoint() -> str:
    return "ok"


async def test_one_template_is_one_budget_whatever_its_parameters(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    app.get("/items/{item_id}", dependencies=[Depends(limiter("2/minute"))])(_endpoint)
    client = await client_of(app)
    statuses = [(await client.get(f"/items/{number}")).status_code for number in range(3)]
    assert statuses == [200, 200, 429]


async def test_routes_of_one_path_under_two_prefixes_are_apart(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limit = limiter("1/minute")
    for prefix in ("/users", "/admin"):
        router = APIRouter(prefix=prefix)
        router.get("/list", dependencies=[Depends(limit)])(_endpoint)
        app.include_router(router)
    client = await client_of(app)
    for path in ("/users/list", "/admin/list"):
        assert [(await client.get(path)).status_code for _ in range(2)] == [200, 429]


async def test_methods_of_one_path_are_apart(app: FastAPI, limiter: RateLimiter, client_of: Open) -> None:
    app.api_route("/thing", methods=["GET", "PUT"], dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    client = await client_of(app)
    assert [(await client.request(each, "/thing")).status_code for each in ("GET", "PUT", "GET", "PUT")] == [
        200,
        200,
        429,
        429,
    ]


@pytest.mark.parametrize("depth", [1, 2, 4])
async def test_a_limit_holds_at_any_depth_of_includes_and_by_the_whole_template(
    app: FastAPI, limiter: RateLimiter, client_of: Open, depth: int
) -> None:
    router = APIRouter()
    router.get("/items/{item}", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    for level in range(depth):
        outer = APIRouter()
        outer.include_router(router, prefix=f"/{{level{level}}}")
        router = outer
    app.include_router(router)
    app.include_router(router, prefix="/again")
    client = await client_of(app)
    for start in ("", "/again"):
        paths = [start + f"/{name}" * depth + "/items/1" for name in ("a", "b")]
        assert [(await client.get(path)).status_code for path in paths] == [200, 429]


async def test_a_limit_holds_in_a_mounted_app(app: FastAPI, limiter: RateLimiter, client_of: Open) -> None:
    inner = FastAPI()
    inner.get("/items/{item}", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    app.mount("/v1", inner)
    app.mount("/v2", inner)
    client = await client_of(app)
    for version in ("/v1", "/v2"):
        statuses = [(await client.get(f"{version}/items/{number}")).status_code for number in range(2)]
        assert statuses == [200, 429]


@pytest.mark.parametrize("is_started", [False, True])
@pytest.mark.parametrize("is_outer_limited", [False, True])
async def test_mounted_apps_with_a_middleware_of_their_own_count_by_the_whole_template(
    limiter: RateLimiter, client_of: Open, is_outer_limited: bool, is_started: bool
) -> None:
    app = FastAPI()
    if is_outer_limited:
        app.add_middleware(RateLimitMiddleware)
    limit = limiter("1/minute")
    for prefix in ("/users", "/admin"):
        inner = FastAPI()
        inner.add_middleware(RateLimitMiddleware)
        inner.get("/list", dependencies=[Depends(limit)])(_endpoint)
        app.mount(prefix, inner)
        if is_started:
            await client_of(inner)
    app.mount("/again", inner)
    client = await client_of(app)
    for path in ("/users/list", "/admin/list", "/again/list"):
        assert [(await client.get(path)).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("is_inner_limited", [False, True])
@pytest.mark.parametrize("deep", ["", "/deep"])
async def test_a_mounted_app_is_limited_apart_where_it_is_mounted_once_more_within_a_second(
    app: FastAPI,
    limiter: RateLimiter,
    client_of: Open,
    monkeypatch: pytest.MonkeyPatch,
    deep: str,
    is_inner_limited: bool,
) -> None:
    now = 1000.0
    monkeypatch.setattr("fastapi_prodkit._routes.monotonic", lambda: now)
    inner, middle = FastAPI(), FastAPI()
    if is_inner_limited:
        inner.add_middleware(RateLimitMiddleware)
    inner.get("/list", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    app.mount("/first", inner)
    app.mount("/deep", middle)
    client = await client_of(app)
    assert [(await client.get("/first/list")).status_code for _ in range(2)] == [200, 429]
    (middle if deep else app).mount("/second", inner)
    now += 1
    for path, expected in (("/first/list", [429, 429]), (f"{deep}/second/list", [200, 429])):
        assert [(await client.get(path)).status_code for _ in range(2)] == expected


async def test_an_endpoint_of_starlette_is_limited_apart_by_a_route_more_within_a_second(
    app: FastAPI, limiter: RateLimiter, client_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("fastapi_prodkit._routes.monotonic", lambda: now)
    limit = limiter("1/minute")

    async def endpoint(request: Request) -> Response:
        await limit(request)
        return PlainTextResponse("ok")

    app.router.add_route("/first", endpoint)
    client = await client_of(app)
    assert [(await client.get("/first")).status_code for _ in range(2)] == [200, 429]
    app.router.add_route("/second", endpoint)
    now += 1
    assert [(await client.get("/second")).status_code for _ in range(2)] == [200, 429]


async def test_a_limit_may_be_called_in_a_mounted_app_of_starlette(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limit = limiter("1/minute")

    async def endpoint(request: Request) -> Response:
        await limit(request)
        return PlainTextResponse("ok")

    app.mount("/old", Starlette(routes=[Route("/a", endpoint), Route("/b/{number}", endpoint)]))
    client = await client_of(app)
    statuses = [(await client.get(f"/old/{path}")).status_code for path in ("a", "a", "b/1", "b/2")]
    assert statuses == [200, 429, 200, 429]


async def test_routes_of_a_mounted_app_are_apart_whatever_its_middleware_does_to_the_scope(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    class Copying:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope}, receive, send)

    inner = FastAPI()
    inner.add_middleware(Copying)
    limit = limiter("1/minute")
    for path in ("/users/list", "/admin/list"):
        inner.get(path, dependencies=[Depends(limit)])(_endpoint)
    app.mount("/v1", inner)
    client = await client_of(app)
    for path in ("/v1/users/list", "/v1/admin/list"):
        assert [(await client.get(path)).status_code for _ in range(2)] == [200, 429]


async def test_a_named_limit_is_one_budget_for_all_routes_that_depend_on_it(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    shared = limiter("3/minute", name="writes")
    app.post("/a", dependencies=[Depends(shared)])(_endpoint)
    app.put("/b/{x}", dependencies=[Depends(shared)])(_endpoint)
    client = await client_of(app)
    answers = [await client.post("/a"), await client.put("/b/1"), await client.put("/b/2")]
    assert [each.headers["ratelimit"].split(";t=")[0] for each in answers] == [
        '"writes";r=2',
        '"writes";r=1',
        '"writes";r=0',
    ]
    assert (await client.post("/a")).status_code == 429


async def test_limits_of_app_router_and_route_are_one_decision(limiter: RateLimiter, client_of: Open) -> None:
    app = FastAPI(dependencies=[Depends(limiter("10/hour", name="app"))])
    app.add_middleware(RateLimitMiddleware)
    router = APIRouter(dependencies=[Depends(limiter("5/hour", name="router"))])
    router.get("/", dependencies=[Depends(limiter("2/hour"))])(_endpoint)
    app.include_router(router)
    client = await client_of(app)
    for _ in range(20):
        answer = await client.get("/")
    assert answer.status_code == 429
    assert [each.split(";t=")[0] for each in answer.headers["ratelimit"].split(", ")] == [
        '"app";r=8',
        '"router";r=3',
        '"per-hour";r=0',
    ]


async def test_two_limits_by_different_keys_do_not_share_a_count(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limits = [Depends(limiter("25/minute", key=lambda _: "same")) for _ in range(2)]
    app.get("/", dependencies=limits)(_endpoint)
    client = await client_of(app)
    answers = [await client.get("/") for _ in range(26)]
    assert [each.status_code for each in answers] == [200] * 25 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"per-minute";q=25;w=60, "per-minute-2";q=25;w=60'


async def test_a_limit_of_the_whole_app_holds_without_a_route(limiter: RateLimiter, client_of: Open) -> None:
    app = FastAPI()
    app.get("/", dependencies=[Depends(limiter("9/minute"))])(_endpoint)
    app.mount("/static", PlainTextResponse("static"))
    app.add_middleware(RateLimitMiddleware, limits=[limiter("4/minute", name="app")])
    client = await client_of(app)
    answers = [await client.get(path) for path in ("/missing", "/static/x", "/", "/", "/", "/missing")]
    assert [each.status_code for each in answers] == [404, 200, 200, 200, 429, 429]
    assert answers[2].headers["ratelimit-policy"] == '"app";q=4;w=60, "per-minute";q=9;w=60'
    assert answers[4].headers["retry-after"] == "15"


async def test_malformed_and_oversized_bodies_count_and_are_refused_unread(
    app: FastAPI, limiter: RateLimiter
) -> None:
    @app.post("/items", dependencies=[Depends(limiter("2/minute"))])
    async def write(item: Item) -> None: ...

    read = 0

    async def ask(body: bytes) -> int:
        nonlocal read
        status = 0

        async def receive() -> dict[str, object]:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            status = int(str(message.get("status", status)))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/items",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("1.2.3.4", 1),
        }
        await app(scope, receive, send)  # type: ignore[arg-type] # plain dictionaries are messages
        return status

    assert [await ask(b"{") for _ in range(2)] == [422, 422]
    assert read == 2
    assert await ask(b"x" * 1_000_000) == 429
    assert read == 2


async def test_a_limit_goes_with_the_dependency_that_was_overridden(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    def user(_: object = Depends(limiter("1/minute"))) -> str:
        return "ada"

    @app.post("/items", dependencies=[Depends(user), Depends(limiter("9/minute", name="writes"))])
    async def write(item: Item) -> None: ...

    app.dependency_overrides[user] = lambda: "bob"
    client = await client_of(app)
    answers = [await client.post("/items", json={"name": "a"}) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 200]
    assert answers[0].headers["ratelimit-policy"] == '"writes";q=9;w=60'


async def test_a_limit_of_the_whole_app_does_not_hide_malformed_bodies_from_the_route_s(
    limiter: RateLimiter, client_of: Open
) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[limiter("99/minute", name="app")])

    @app.post("/items", dependencies=[Depends(limiter("2/minute"))])
    async def write(item: Item) -> None: ...

    client = await client_of(app)
    assert [(await client.post("/items", content=b"{")).status_code for _ in range(4)] == [422, 422, 429, 429]


async def test_a_body_that_the_endpoint_reads_itself_is_counted_once(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    @app.middleware("http")
    async def untouched(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    @app.post("/items", dependencies=[Depends(limiter("1/minute"))])
    async def write(request: Request) -> int:
        return len(await request.body())

    client = await client_of(app)
    assert [(await client.post("/items", content=b"abc")).status_code for _ in range(3)] == [200, 429, 429]


async def test_a_limit_without_the_middleware_stops_the_start(limiter: RateLimiter) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware)
    app.get("/", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    with pytest.raises(ConfigurationError, match="add_middleware\\(RateLimitMiddleware\\)"):
        async with started(app):
            pass


async def test_a_mounted_app_starts_by_the_middleware_of_its_own_and_not_by_another_s(
    limiter: RateLimiter,
) -> None:
    app, limited, other = FastAPI(), FastAPI(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware)
    limited.add_middleware(RateLimitMiddleware)
    limited.get("/", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    app.mount("/limited", limited)
    async with started(app):
        pass
    other.get("/", dependencies=[Depends(limiter("1/minute"))])(lambda: "ok")
    app.mount("/other", other)
    with pytest.raises(ConfigurationError, match="/other/ has a rate limit"):
        async with started(app):
            pass


async def test_two_limits_of_one_name_on_a_route_stop_the_start(app: FastAPI, limiter: RateLimiter) -> None:
    app.get(
        "/",
        dependencies=[Depends(limiter("1/minute", name="a")), Depends(limiter("2/minute", name="a"))],
    )(_endpoint)
    with pytest.raises(ConfigurationError, match="one name"):
        async with started(app):
            pass


async def test_two_limits_of_one_name_for_the_whole_app_are_refused(limiter: RateLimiter) -> None:
    app = FastAPI()
    limits = [limiter("1/minute", name="app"), limiter("2/minute", name="app")]
    app.add_middleware(RateLimitMiddleware, limits=limits)
    with pytest.raises(ConfigurationError, match="one name"):
        app.build_middleware_stack()


async def test_limits_of_a_second_middleware_are_not_dropped_without_a_word(limiter: RateLimiter) -> None:
    app = FastAPI()
    for name in ("a", "b"):
        app.add_middleware(RateLimitMiddleware, limits=[limiter("1/minute", name=name)])
    with pytest.raises(ConfigurationError, match="once"):
        app.build_middleware_stack()


async def test_a_nameless_limit_of_the_whole_app_is_refused(limiter: RateLimiter) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[limiter("1/minute")])
    with pytest.raises(ConfigurationError, match="name="):
        app.build_middleware_stack()


@pytest.mark.parametrize("apart", [False, True])
async def test_what_a_route_refuses_consumes_nothing_of_the_whole_app(
    limiter: RateLimiter, client_of: Open, apart: bool
) -> None:
    """Whether one limiter counts both or each has its own."""
    other = RateLimiter(MemoryBackend().counters) if apart else limiter
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[limiter("10/hour", name="all")])
    app.get("/a", dependencies=[Depends(other("1/minute"))])(_endpoint)
    app.post("/a", dependencies=[Depends(other("1/minute"))])(_endpoint)
    app.get("/b")(_endpoint)
    client = await client_of(app)
    answers = [await client.get("/a") for _ in range(12)]
    answers += [await client.post("/a", json={}) for _ in range(12)]
    assert [each.status_code for each in answers] == ([200] + [429] * 11) * 2
    assert '"all";r=9' in answers[1].headers["ratelimit"]
    last = await client.get("/b")
    assert last.status_code == 200
    assert last.headers["ratelimit"].startswith('"all";r=7;')


async def test_what_one_limiter_refuses_consumes_nothing_of_another(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    hour, minute = limiter("10/hour", name="h"), RateLimiter(MemoryBackend().counters)("1/minute", name="m")
    app.get("/", dependencies=[Depends(hour), Depends(minute)])(_endpoint)
    client = await client_of(app)
    assert [(await client.get("/")).status_code for _ in range(5)] == [200, 429, 429, 429, 429]
    assert (await hour.peek("127.0.0.1")).remaining == 9


async def test_a_route_and_the_whole_app_have_no_two_limits_of_one_name(limiter: RateLimiter) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[limiter("10/hour", name="a")])
    app.get("/", dependencies=[Depends(limiter("5/hour", name="a"))])(_endpoint)
    with pytest.raises(ConfigurationError, match="/ is under two limits of one name: a, a"):
        async with started(app):
            pass


async def test_one_limit_may_be_of_the_whole_app_and_of_a_route(
    limiter: RateLimiter, client_of: Open
) -> None:
    everywhere = limiter("5/hour", name="a")
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limits=[everywhere])
    app.get("/", dependencies=[Depends(everywhere)])(_endpoint)
    client = await client_of(app)
    assert [(await client.get("/")).status_code for _ in range(6)] == [200] * 5 + [429]
