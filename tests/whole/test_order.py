"""Whatever the order of the `add_middleware` lines, an app answers and logs the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
    Resources,
)

OURS = ["logging", "problems", "limits", "cache"]
THEIRS = ["cors", "gzip", "base"]
ORIGIN = {"Origin": "https://shop.example", "Accept-Encoding": "gzip"}

Order = tuple[str, ...]


def _orders() -> list[Order]:
    """Ours in every order around theirs, and forty of the five thousand mixtures."""
    around = [(*ours[:2], *THEIRS, *ours[2:]) for ours in permutations(OURS)]
    mixed = random.Random(4).sample(list(permutations([*OURS, *THEIRS])), 40)
    return [*around, *mixed]


async def _forward(request: Request, call_next: RequestResponseEndpoint) -> Response:
    answer = await call_next(request)
    answer.headers["X-Passed"] = "base"
    return answer


def _app(order: Order, records: list[dict[str, Any]]) -> FastAPI:
    backend = MemoryBackend()
    kept, limiter = Cache(backend.store), RateLimiter(backend.counters)
    app = FastAPI(lifespan=Resources(backend))
    add: dict[str, Any] = {
        "logging": lambda: app.add_middleware(
            RequestLoggingMiddleware, sink=lambda line, level: records.append(json.loads(line))
        ),
        "problems": lambda: app.add_middleware(ProblemMiddleware),
        "limits": lambda: app.add_middleware(RateLimitMiddleware),
        "cache": lambda: app.add_middleware(CacheMiddleware),
        "cors": lambda: app.add_middleware(
            CORSMiddleware, allow_origins=["https://shop.example"], expose_headers=["X-Request-ID"]
        ),
        "gzip": lambda: app.add_middleware(GZipMiddleware, minimum_size=200),
        "base": lambda: app.add_middleware(BaseHTTPMiddleware, dispatch=_forward),
    }
    for name in order:
        add[name]()

    @app.api_route("/items/{item_id}", methods=["GET", "HEAD"], dependencies=[Depends(limiter("4/hour"))])
    @kept(ttl=60)
    async def item(item_id: int) -> list[str]:
        return [f"item {item_id}"] * 40

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("a secret")

    @app.post("/login", dependencies=[Depends(limiter("1/hour"))])
    async def login(name: str) -> str:
        return name

    return app


REQUESTS = [
    ("GET", "/items/1"),  # a miss, compressed
    ("GET", "/items/1"),  # a hit
    ("HEAD", "/items/1"),
    ("GET", "/items/no"),  # 422
    ("GET", "/items/1"),
    ("GET", "/items/1"),  # 429
    ("GET", "/boom"),  # 500
    ("GET", "/nowhere"),
    ("DELETE", "/boom"),
    ("POST", "/login?name=ada"),
    ("POST", "/login"),  # 429 before it is found out that the name is missing
    ("OPTIONS", "/items/1"),
]
_TIMED = {"instance", "detail"}  # "Try again in 899 s."
_CHANGING = {"x-request-id", "ratelimit", "retry-after", "age", "date"}


def _seen(order: Order) -> Iterator[dict[str, Any]]:
    """What a client and a reader of the log see, without what differs from run to run."""
    records: list[dict[str, Any]] = []
    with TestClient(_app(order, records), raise_server_exceptions=False) as client:
        for number, (method, path) in enumerate(REQUESTS):
            answer = client.request(method, path, headers=ORIGIN)
            if status := answer.headers.get("cache-status"):
                answer.headers["cache-status"] = status.partition("; ttl=")[0]  # the clock goes on
            record = records[number]
            body = answer.text
            if answer.headers.get("content-type") == "application/problem+json" and body:
                body = json.dumps({k: v for k, v in answer.json().items() if k not in _TIMED})
            yield {
                "request": f"{method} {path}",
                "status": answer.status_code,
                "headers": {
                    name: sorted(value.split(", ")) if name == "vary" else "*" if name in _CHANGING else value
                    for name, value in answer.headers.items()
                },
                "body": body,
                "logged": [
                    record.get(name)
                    for name in ("http.route", "http.response.status_code", "outcome", "exception.type")
                ],
                "same id": record["request_id"] == answer.headers["x-request-id"],
            }
    assert len(records) == len(REQUESTS)


@cache
def _expected(theirs: Order) -> list[dict[str, Any]]:
    return list(_seen((*OURS, *theirs)))


def test_every_answer_is_what_the_readme_promises() -> None:
    expected = _expected(tuple(THEIRS))
    assert [each["status"] for each in expected] == [
        200,
        200,
        200,
        422,
        200,
        429,
        500,
        404,
        405,
        200,
        429,
        405,
    ]
    miss, hit = expected[0], expected[1]
    assert hit["body"] == miss["body"]
    assert {**hit["headers"], "age": "*"} == {
        **miss["headers"],
        "age": "*",
        "cache-status": hit["headers"]["cache-status"],
    }
    assert "hit" in hit["headers"]["cache-status"]
    assert "hit" not in miss["headers"]["cache-status"]
    assert miss["headers"]["content-encoding"] == "gzip"
    for each in expected:
        assert each["same id"]
        assert each["headers"]["access-control-allow-origin"] == "https://shop.example"
        assert each["headers"]["x-passed"] == "base"
        if each["status"] >= 400:
            assert each["headers"]["content-type"] == "application/problem+json", each
            assert "secret" not in each["body"]
    for refused in (expected[5], expected[10]):
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= refused["headers"].keys()
        assert json.loads(refused["body"])["violated-policies"]
    assert expected[6]["logged"] == ["/boom", 500, "server_error", "builtins.ValueError"]


@pytest.mark.parametrize("order", _orders(), ids=" ".join)
def test_the_order_of_the_lines_changes_nothing(order: Order) -> None:
    theirs = tuple(each for each in order if each in THEIRS)
    for got, wanted in zip(_seen(order), _expected(theirs), strict=True):
        assert got == wanted


class _Raises:
    """A middleware of the user's that fails."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise ValueError("secret")
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    "order",
    [
        order
        for order in permutations(("cors", "raises", *OURS))
        if order.index("cors") > order.index("raises")
    ],
)
def test_those_outside_see_the_answer_to_what_a_middleware_raises(order: Order) -> None:
    app, records = FastAPI(), list[dict[str, Any]]()
    lines: dict[str, tuple[Any, dict[str, Any]]] = {
        "cors": (CORSMiddleware, {"allow_origins": ["*"]}),
        "raises": (_Raises, {}),
        "logging": (RequestLoggingMiddleware, {"sink": lambda line, level: records.append(json.loads(line))}),
        "problems": (ProblemMiddleware, {}),
        "limits": (RateLimitMiddleware, {}),
        "cache": (CacheMiddleware, {}),
    }
    for name in order:
        middleware, options = lines[name]
        app.add_middleware(middleware, **options)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/", headers={"Origin": "https://shop.example"})
    assert answer.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert answer.headers["access-control-allow-origin"] == "*"
    [record] = records
    assert (record["http.response.status_code"], record["exception.type"]) == (500, "builtins.ValueError")


class _CopyingCache(CacheMiddleware):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/fails":
            raise ValueError("secret")
        await super().__call__(dict(scope), receive, send)


class _CopyingLimits(RateLimitMiddleware):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/fails":
            raise ValueError("secret")
        await super().__call__(dict(scope), receive, send)


@pytest.mark.parametrize("middleware", [_CopyingCache, _CopyingLimits])
def test_a_subclass_of_a_middleware_of_ours_is_watched_as_one_of_the_users(middleware: Any) -> None:
    app, records = FastAPI(), list[dict[str, Any]]()
    app.add_middleware(middleware)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RequestLoggingMiddleware, sink=lambda line, level: records.append(json.loads(line)))

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/items/1").json() == 1
        assert client.get("/fails").headers["content-type"] == "application/problem+json"
    assert [record["http.route"] for record in records] == ["/items/{item_id}", "(unmatched)"]
