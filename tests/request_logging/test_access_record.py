"""The fields of an access record, as a client's request makes them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import RequestLoggingMiddleware

from .lines import Lines


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def app(lines: Lines) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    app.add_middleware(GZipMiddleware, minimum_size=1000)

    @app.get("/items/{item_id}")
    async def get_item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    @app.post("/upload")
    async def upload(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.get("/error")
    async def error() -> None:
        raise ValueError("boom")

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(418)

    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 4711)) as client:
        yield client


def test_a_request_is_one_record_with_opentelemetry_s_names(client: TestClient, lines: Lines) -> None:
    client.get("/items/3")
    record = lines.only
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["timestamp"])
    assert record["level"] == "INFO"
    assert record["outcome"] == "ok"
    assert record["http.request.method"] == "GET"
    assert record["http.route"] == "/items/{item_id}"
    assert record["http.response.status_code"] == 200
    assert record["http.response.body.size"] == len(b'{"id":3}')
    assert record["http.request.body.size"] == 0
    assert record["client.address"] == "127.0.0.1"
    assert record["url.scheme"] == "http"
    assert re.fullmatch("[0-9a-f]{32}", record["request_id"])
    assert re.fullmatch("[0-9a-f]{32}", record["trace_id"])
    assert re.fullmatch("[0-9a-f]{16}", record["span_id"])
    first = record["http.server.request.time_to_first_byte"]
    assert 0 < first <= record["http.server.request.duration"] < 5


def test_the_request_id_is_on_the_response(client: TestClient, lines: Lines) -> None:
    response = client.get("/items/3")
    assert response.headers["x-request-id"] == lines.only["request_id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "outcome", "level"),
    [
        ("GET", "/refused", 418, "client_error", "WARNING"),
        ("GET", "/items/x", 422, "client_error", "WARNING"),
        ("DELETE", "/items/3", 405, "client_error", "WARNING"),
        ("GET", "/nowhere", 404, "client_error", "WARNING"),
        ("GET", "/error", 500, "server_error", "ERROR"),
    ],
)
def test_a_failure_is_one_record_with_its_outcome(
    client: TestClient, lines: Lines, method: str, path: str, status: int, outcome: str, level: str
) -> None:
    client.request(method, path)
    record = lines.only
    assert record["http.response.status_code"] == status
    assert (record["outcome"], record["level"]) == (outcome, level)


def test_an_unhandled_exception_is_named_by_its_type_alone(client: TestClient, lines: Lines) -> None:
    client.get("/error")
    assert lines.only["exception.type"] == "builtins.ValueError"
    assert b"boom" not in lines.raw[0]


def test_what_no_route_matches_has_one_label(client: TestClient, lines: Lines) -> None:
    for path in ("/a", "/b/c", "/%00"):
        client.get(path)
    assert {record["http.route"] for record in lines.records} == {"(unmatched)"}


def test_a_method_that_nobody_knows_has_one_label(client: TestClient, lines: Lines) -> None:
    client.request("SPAM", "/items/3")
    assert lines.only["http.request.method"] == "_OTHER"


def test_the_body_is_counted_as_it_went_over_the_wire(client: TestClient, lines: Lines) -> None:
    body = b'{"a":"' + b"x" * 5000 + b'"}'
    response = client.post("/upload", content=body)
    assert lines.only["http.request.body.size"] == len(body)
    assert response.headers["content-encoding"] == "gzip"
    assert lines.only["http.response.body.size"] == int(response.headers["content-length"])


def test_a_response_to_head_has_no_body_on_the_wire(lines: Lines) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    app.add_api_route("/", lambda: {"a": 1}, methods=["HEAD"])
    TestClient(app).head("/")
    assert lines.only["http.response.body.size"] == 0


def test_the_route_is_the_openapi_path_behind_its_mounts_at_any_depth(lines: Lines) -> None:
    inner = APIRouter(prefix="/orders")

    @inner.get("/{order_id}")
    async def get_order(order_id: int) -> int:
        return order_id

    middle, outer = APIRouter(), APIRouter(prefix="/v1")
    middle.include_router(inner, prefix="/users/{user_id}")
    outer.include_router(middle)
    app, mounted = FastAPI(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    app.include_router(outer, prefix="/api")
    mounted.include_router(outer, prefix="/deep")
    app.mount("/sub/{tenant}", mounted)
    with TestClient(app) as client:
        assert client.get("/api/v1/users/1/orders/2").status_code == 200
        assert client.get("/sub/acme/deep/v1/users/1/orders/2").status_code == 200
    routes = [record["http.route"] for record in lines.records]
    assert routes[0] in app.openapi()["paths"]
    assert routes[1].removeprefix("/sub/{tenant}") in mounted.openapi()["paths"]


class Hiding:
    """Keeps the app that it wraps, and its routes, to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@pytest.mark.parametrize("own_lifespan", [True, False])
@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        (lambda outer, mounted: outer.mount("/{tenant}", mounted), "/v1/{tenant}/items/{item_id}"),
        (lambda outer, mounted: outer.mount("/{tenant}", Hiding(mounted)), "/items/{item_id}"),
    ],
)
def test_an_app_that_logs_by_itself_knows_where_it_is_mounted(
    lines: Lines, mount: Any, expected: str, own_lifespan: bool
) -> None:
    app, outer, mounted = FastAPI(), FastAPI(), FastAPI()
    mounted.add_middleware(RequestLoggingMiddleware, sink=lines)

    @mounted.get("/items/{item_id}")
    async def get_item(item_id: int) -> int:
        return item_id

    app.mount("/v1", outer)
    mount(outer, mounted)
    with TestClient(mounted) if own_lifespan else nullcontext():
        for tenant in ("acme", "acme", "ada"):
            assert TestClient(app, root_path="/behind").get(f"/behind/v1/{tenant}/items/1").text == "1"
    assert [record["http.route"] for record in lines.records] == [expected] * 3


@pytest.mark.parametrize("root_path", ["", "/behind"])
def test_routes_that_share_an_endpoint_are_told_apart(lines: Lines, root_path: str) -> None:
    async def serve(request: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    routes = [Route("/a", serve), Route("/b/{rest:path}", serve)]
    app = FastAPI(routes=[*routes, Mount("/mounted", routes=routes)])
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    client = TestClient(app, root_path=root_path)
    for _ in range(2):
        for path in ("/a", "/b/1/2", "/mounted/a", "/mounted/b/1/2"):
            assert client.get(root_path + path).status_code == 200
    assert [record["http.route"] for record in lines.records] == [
        "/a",
        "/b/{rest}",
        "/mounted/a",
        "/mounted/b/{rest}",
    ] * 2


@pytest.mark.parametrize("logging_first", [True, False])
@pytest.mark.parametrize("path", ["/items/1", "/included/items/1", "/mounted/items/1"])
def test_a_middleware_may_pass_on_a_copy_of_the_scope(lines: Lines, logging_first: bool, path: str) -> None:
    class Copying:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "path": path} if scope["type"] == "http" else scope, receive, send)

    router = APIRouter()

    @router.get("/items/{item_id}")
    async def get_item(item_id: int) -> int:
        return item_id

    app, mounted = FastAPI(), FastAPI()
    mounted.include_router(router)
    app.include_router(router)
    app.include_router(router, prefix="/included")
    app.mount("/mounted", mounted)
    if logging_first:
        app.add_middleware(RequestLoggingMiddleware, sink=lines)
    app.add_middleware(Copying)
    if not logging_first:
        app.add_middleware(RequestLoggingMiddleware, sink=lines)
    client = TestClient(app)
    for _ in range(2):
        assert client.get("/rewritten").text == "1"
    route = path.replace("1", "{item_id}")
    assert [record["http.route"] for record in lines.records] == [route, route]


def test_a_stream_is_timed_to_its_last_byte(lines: Lines) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines)
    moments = iter([0.0, 1.0, 8.0, 9.0])

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    @app.get("/")
    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi_prodkit.request_logging.exchange.perf_counter", lambda: next(moments))
        TestClient(app).get("/")
    assert lines.only["http.server.request.time_to_first_byte"] == 1.0
    assert lines.only["http.server.request.duration"] == 9.0
    assert lines.only["http.response.body.size"] == 2


def test_middleware_added_twice_writes_one_record(lines: Lines) -> None:
    app = FastAPI()
    for _ in range(2):
        app.add_middleware(RequestLoggingMiddleware, sink=lines)
    TestClient(app).get("/")
    assert len(lines.raw) == 1


async def test_a_line_goes_to_standard_output_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get("/")
    assert json.loads(capsys.readouterr().out)["http.response.status_code"] == 404
