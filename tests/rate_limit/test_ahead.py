"""Limits that a route depends on first are weighed before FastAPI solves its dependencies. Nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    MemoryBackend,
    RateLimiter,
)
from fastapi_prodkit.rate_limit import Decision

from .conftest import Open


async def _endpoint() -> str:
    return "ok"


async def test_it_is_so(app: FastAPI, limiter: RateLimiter, client_of: Open) -> None:
    """Or what follows would show nothing."""
    app.get("/", dependencies=[Depends(limiter("9/minute"))])(_endpoint)
    [route] = [each for each in app.routes if isinstance(each, APIRoute)]
    before = route.app
    await client_of(app)
    assert route.app is not before


async def test_what_a_dependency_refuses_first_is_not_counted(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    async def user(request: Request) -> None:
        if "authorization" not in request.headers:
            raise HTTPException(401)

    app.get("/", dependencies=[Depends(user), Depends(limiter("1/minute"))])(_endpoint)
    client = await client_of(app)
    assert [(await client.get("/")).status_code for _ in range(3)] == [401] * 3
    assert (await client.get("/", headers={"authorization": "x"})).status_code == 200


async def test_what_follows_a_limit_runs_for_what_it_admits(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    seen: list[str] = []

    async def user(request: Request) -> str:
        seen.append(request.url.path)
        return "ada"

    @app.get("/{number}", dependencies=[Depends(limiter("2/minute")), Depends(limiter("9/hour"))])
    async def endpoint(number: int, name: str = Depends(user)) -> str:
        return f"{name}{number}"

    client = await client_of(app)
    answers = [await client.get(f"/{number}") for number in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each.json() for each in answers[:2]] == ["ada0", "ada1"]
    assert seen == ["/0", "/1"]
    assert answers[0].headers["ratelimit"].count(";r=") == 2


async def test_an_override_is_in_force_for_as_long_as_it_is_there(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    limit = limiter("1/minute")
    called: list[str] = []
    app.get("/", dependencies=[Depends(limit)])(_endpoint)
    client = await client_of(app)
    assert (await client.get("/")).status_code == 200
    app.dependency_overrides[limit] = lambda: called.append("instead")
    assert [(await client.get("/")).status_code for _ in range(3)] == [200] * 3
    assert called == ["instead"] * 3
    app.dependency_overrides.clear()
    assert (await client.get("/")).status_code == 429


async def test_who_wants_the_decision_gets_it(app: FastAPI, limiter: RateLimiter, client_of: Open) -> None:
    limit = limiter("5/minute")

    @app.get("/", dependencies=[Depends(limit)])
    async def endpoint(decision: Decision = Depends(limit)) -> float:
        return decision.remaining

    client = await client_of(app)
    assert [(await client.get("/")).json() for _ in range(2)] == [4, 3]


async def test_a_router_included_twice_has_two_budgets(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    router = APIRouter(dependencies=[Depends(limiter("1/minute"))])
    router.get("/{name}")(_endpoint)
    for prefix in ("/a", "/b"):
        app.include_router(router, prefix=prefix)
    client = await client_of(app)
    for path in ("/a/x", "/b/x"):
        assert [(await client.get(path)).status_code for _ in range(2)] == [200, 429]


async def test_a_route_that_was_wrapped_stays_wrapped(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    app.get("/", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    [route] = [each for each in app.routes if isinstance(each, APIRoute)]
    route.app = _Marks(route.app)
    client = await client_of(app)
    answers = [await client.get("/") for _ in range(2)]
    assert [(each.status_code, each.headers.get("x-mark")) for each in answers] == [
        (200, "yes"),
        (429, "yes"),
    ]


class _Marks:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-mark", b"yes"))
            await send(message)

        await self._app(scope, receive, marked)


async def test_a_route_class_of_ones_own_keeps_its_handler(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    made: list[str] = []

    class Own(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            made.append(self.path)
            return super().get_route_handler()

    app.router.route_class = Own
    app.get("/", dependencies=[Depends(limiter("1/minute"))])(_endpoint)
    client = await client_of(app)
    assert [(await client.get("/")).status_code for _ in range(2)] == [200, 429]
    assert made == ["/"]


async def test_a_cached_answer_is_counted_and_is_found_at_once(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    cache = Cache(MemoryBackend().store)
    app.add_middleware(CacheMiddleware)
    calls: list[int] = []

    @app.get("/{number}", dependencies=[Depends(limiter("3/minute"))])
    @cache(ttl=60)
    async def endpoint(number: int) -> int:
        calls.append(number)
        return number

    async with cache:
        client = await client_of(app)
        answers = [await client.get("/7") for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers["ratelimit"].partition(";r=")[2][0] for each in answers] == ["2", "1", "0", "0"]
    assert calls == [7]


async def test_a_percent_sign_in_a_name_reaches_the_client(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    app.get("/", dependencies=[Depends(limiter("5/minute", name="50%d"))])(_endpoint)
    client = await client_of(app)
    assert (await client.get("/")).headers["ratelimit"].startswith('"50%d";r=4;t=')


async def test_the_documentation_tells_of_the_limit(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    app.get("/", dependencies=[Depends(limiter("5/minute"))])(_endpoint)
    client = await client_of(app)
    operation = (await client.get("/openapi.json")).json()["paths"]["/"]["get"]
    assert "429" in operation["responses"]


async def test_an_app_that_sends_one_message_again_and_again_gets_fresh_headers(
    app: FastAPI, limiter: RateLimiter, client_of: Open
) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]}

    class Constant(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send(start)
            await send({"type": "http.response.body", "body": b"ok"})

    @app.get("/", dependencies=[Depends(limiter("5/minute"))])
    async def endpoint() -> Response:
        return Constant()

    client = await client_of(app)
    answers = [await client.get("/") for _ in range(3)]
    assert [each.headers.get_list("ratelimit-policy") for each in answers] == [['"per-minute";q=5;w=60']] * 3
