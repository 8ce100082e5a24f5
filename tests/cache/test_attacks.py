"""Requests and responses that were chosen to get past the cache."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import struct
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Form, Request, Response, UploadFile
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.routing import Host, Mount, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend, RedisBackend
from fastapi_prodkit.cache.entry import Entry
from fastapi_prodkit.errors import UnavailableError

from ..servers import RedisServer
from .conftest import Connect


def _app() -> tuple[FastAPI, Cache]:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    return app, Cache(MemoryBackend().store)


async def test_the_short_way_keeps_to_the_methods_of_the_route(connect: Connect) -> None:
    app, cache = _app()

    @app.get("/a")
    @cache(ttl=60)
    async def a() -> str:
        return "a"

    async with connect(app) as client:
        before = await client.head("/a")
        for _ in range(3):
            await client.get("/a")
        after = await client.head("/a")
        assert (after.status_code, after.headers.get("etag")) == (before.status_code, None)


async def test_the_short_way_keeps_two_methods_of_one_path_apart(connect: Connect) -> None:
    app, cache = _app()
    cached = cache(ttl=60, methods=["GET", "POST"])

    async def read() -> str:
        return "read"

    async def write() -> str:
        return "written"

    app.get("/a")(cached(read))
    app.post("/a")(cached(write))
    async with connect(app) as client:
        for _ in range(3):
            assert (await client.get("/a")).json() == "read"
        assert (await client.post("/a")).json() == "written"
        assert (await client.get("/a")).json() == "read"


class Public(BaseModel):
    name: str


class Full(Public):
    password: str


async def test_one_function_on_two_methods_shows_each_its_own_fields(connect: Connect) -> None:
    app, cache = _app()

    @cache(ttl=60, methods=["GET", "POST"])
    async def user() -> Any:
        return Full(name="ann", password="secret")

    app.post("/u", response_model=Full)(user)
    app.get("/u", response_model=Public)(user)
    async with connect(app) as client:
        assert "password" in (await client.post("/u")).json()
        assert (await client.get("/u")).json() == {"name": "ann"}


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"response_model": Full}, {"response_model": Public}),
        ({"response_model": Full | None}, {"response_model": Public | None}),
        ({"response_model": Full}, {"response_model": Full, "response_model_exclude": {"password"}}),
        ({}, {"response_model_include": {"name": ...}}),
    ],
)
async def test_one_function_in_two_apps_shows_each_its_own_fields(
    connect: Connect, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    one, cache = _app()
    other = FastAPI()
    other.add_middleware(CacheMiddleware)

    @cache(ttl=60)
    async def user() -> Any:
        return Full(name="ann", password="secret")

    one.get("/u", **inside)(user)
    other.get("/u", **outside)(user)
    async with connect(one) as inner, connect(other) as outer:
        for _ in range(2):
            assert "password" in (await inner.get("/u")).json()
            answer = await outer.get("/u")
            assert answer.json() == {"name": "ann"}
    assert "hit" in answer.headers["cache-status"]


def test_a_declaration_has_the_same_text_in_every_process() -> None:
    script = (
        "from typing import Annotated, Literal; from pydantic import AfterValidator, BaseModel;"
        "from fastapi_prodkit.cache.identity import spelled; Item = type('Item', (BaseModel,), {});"
        "print(spelled(dict[str, Annotated[list[Item] | None, AfterValidator(len)]]),"
        "spelled({'b', 'a', 'c'}), spelled({'x': {'y': ...}}), spelled(Literal['a']))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=env)
        for env in ({**os.environ, "PYTHONHASHSEED": seed} for seed in "12")
    ]
    assert runs[0].stdout == runs[1].stdout


async def test_one_function_behind_two_hosts_shows_each_its_own_fields(connect: Connect) -> None:
    app, cache = _app()
    inside, outside = FastAPI(), FastAPI()

    @cache(ttl=60)
    async def user() -> Any:
        return Full(name="ann", password="secret")

    inside.get("/u", response_model=Full)(user)
    outside.get("/u", response_model=Public)(user)
    app.router.routes.insert(0, Host("in.test", inside))
    app.router.routes.insert(0, Host("out.test", outside))
    async with connect(app) as client:
        assert "password" in (await client.get("http://in.test/u")).json()
        assert (await client.get("http://out.test/u")).json() == {"name": "ann"}


async def test_an_endpoint_may_hand_its_request_to_a_cached_one(connect: Connect) -> None:
    app, cache = _app()

    @app.get("/new")
    @cache(ttl=60, shared=True)
    async def new(request: Request) -> str:
        return request.url.path

    @app.get("/old")
    async def old(request: Request) -> str:
        return await new(request=request)

    async with connect(app) as client:
        assert (await client.get("/new")).json() == "/new"
        assert (await client.get("/old")).json() == "/old"
        app.add_api_route("/later", new)
        assert (await client.get("/later")).json() == "/later"
        assert (await client.get("/later")).json() == "/later"


async def test_an_override_need_not_be_hashable(connect: Connect) -> None:
    app, cache = _app()

    def who() -> str:
        return "real"

    @dataclass
    class Fake:
        name: str

        def __call__(self) -> str:
            return self.name

    @app.get("/")
    @cache(ttl=60)
    async def me(name: str = Depends(who)) -> str:
        return name

    async with connect(app) as client:
        assert (await client.get("/")).json() == "real"
        for name in ("ann", "bob"):
            app.dependency_overrides[who] = Fake(name)
            assert (await client.get("/")).json() == name


class Upload(BaseModel):
    file: UploadFile


async def test_files_of_one_name_and_size_are_not_one_body(connect: Connect) -> None:
    app, cache = _app()

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def read(form: Annotated[Upload, Form()]) -> str:
        return (await form.file.read()).decode()

    async with connect(app) as client:
        for text in ("one", "two"):
            assert (await client.post("/", files={"file": ("a.txt", text)})).json() == text


async def test_a_file_that_a_dependency_has_read_is_part_of_the_body(connect: Connect) -> None:
    app, cache = _app()

    class Upload(BaseModel):
        file: UploadFile

    param = Form()

    async def content(upload: Upload = param) -> bytes:
        return await upload.file.read()

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def read(upload: Upload = param, whole: bytes = Depends(content)) -> tuple[bytes, bytes]:
        return whole, await upload.file.read()

    async with connect(app) as client:
        for file in (b"one", b"two", b"one"):
            answer = await client.post("/", files={"file": ("name", file)})
            assert answer.json() == [file.decode(), ""]
    assert "hit" in answer.headers["cache-status"]


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("application/json", True),
        ("APPLICATION/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("application/jsonlines", False),
        ("text/json", False),
        ("text/plain; of=json", False),
    ],
)
async def test_two_spellings_are_one_body_only_where_they_are_read_as_json(
    connect: Connect, kind: str, *, is_one: bool
) -> None:
    app, cache = _app()
    calls = []

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def read(body: Annotated[Any, Body()]) -> str:
        calls.append(body)
        return repr(body)

    async with connect(app) as client:
        for body in (b"[1,2]", b"[1, 2]"):
            answer = await client.post("/", content=body, headers={"content-type": kind})
            assert answer.json() == repr([1, 2] if is_one else body)
    assert len(calls) == (1 if is_one else 2)


async def test_the_order_of_a_body_counts(connect: Connect) -> None:
    app, cache = _app()

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def columns(body: dict[str, int]) -> list[str]:
        return list(body)

    async with connect(app) as client:
        for body in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
            assert (await client.post("/", json=body)).json() == list(body)


async def test_no_depth_of_a_body_makes_a_difference(connect: Connect) -> None:
    app, cache = _app()

    async def ask(body: Annotated[Any, Body()]) -> int:
        return len(body)

    app.post("/plain")(ask)
    app.post("/cached")(cache(ttl=60, methods=["POST"])(ask))
    async with connect(app) as client:
        for depth in range(800, 1000):
            content = b"[" * depth + b"]" * depth
            plain, cached = [
                await client.post(path, content=content, headers={"content-type": "application/json"})
                for path in ("/plain", "/cached")
            ]
            assert plain.status_code == cached.status_code


async def test_bodies_of_two_content_types_are_two(connect: Connect) -> None:
    app, cache = _app()

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def echo(data: Annotated[str, Body()]) -> str:
        return data

    async with connect(app) as client:
        for kind, text in (("application/json", "a"), ("text/plain", '"a"'), ("text/jsonlike", '"a"')):
            answer = await client.post("/", content='"a"', headers={"content-type": kind})
            assert answer.json() == text, kind
        answer = await client.post("/", content='{"a', headers={"content-type": "text/jsonlike"})
        assert answer.json() == '{"a'


async def test_what_an_exception_handler_answers_is_not_kept(connect: Connect) -> None:
    app, cache = _app()
    names: list[Any] = ["ann", 1]

    @app.exception_handler(ResponseValidationError)
    async def handled(request: Request, error: Exception) -> Response:
        return JSONResponse({"code": 500}, status_code=200)

    @app.get("/")
    @cache(ttl=60)
    async def me() -> Public:
        return {"name": names.pop()}  # type: ignore[return-value]

    async with connect(app) as client:
        assert (await client.get("/")).json() == {"code": 500}
        assert (await client.get("/")).json() == {"name": "ann"}


def test_a_cut_entry_is_none() -> None:
    raw = Entry(b"the whole body", b"", 1.0, 2.0, 0.0).to_bytes()
    assert Entry.from_bytes(raw) is not None
    assert Entry.from_bytes(raw[:-3]) is None
    nan = raw.replace(struct.pack("<d", 2.0), struct.pack("<d", float("nan")))
    assert Entry.from_bytes(nan) is None


def test_a_cut_entry_without_a_body_is_none() -> None:
    raw = Entry(b"", b"s" * 12, 1.0, 2.0, 0.0, 204, hidden=(b"x-hidden",)).to_bytes()
    assert Entry.from_bytes(raw) is not None
    for length in range(len(raw)):
        assert Entry.from_bytes(raw[:length]) is None


async def test_a_function_that_asks_for_its_own_answer_is_told_so() -> None:
    cache = Cache()

    @cache(ttl=60)
    async def endless(n: int) -> int:
        return 1 + await endless(n)

    with pytest.raises(RecursionError):
        async with asyncio.timeout(2):
            await endless(1)


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    app, cache = _app()

    @app.get("/")
    @cache(ttl=60)
    async def page() -> StreamingResponse:
        async def chunks() -> Any:
            yield "a"
            yield "b"

        return StreamingResponse(chunks())

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/",
        "raw_path": b"/", "query_string": b"", "headers": [], "scheme": "http", "root_path": "",
        "server": ("test", 80), "client": ("test", 1), "state": {},
    }  # fmt: skip
    stuck = asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message.get("body"):
            stuck.set()
            await asyncio.Event().wait()

    slow = asyncio.create_task(app(scope, receive, send))
    await stuck.wait()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
        async with asyncio.timeout(5):
            assert (await client.get("/")).text == "ab"
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_a_plain_decorator_below_the_cache_may_wrap_a_coroutine_function(connect: Connect) -> None:
    app, cache = _app()

    def plain(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    @app.get("/")
    @cache(ttl=60)
    @plain
    async def me() -> str:
        return "x"

    async with connect(app) as client:
        for _ in range(2):
            assert (await client.get("/")).json() == "x"


async def test_a_coroutine_decorator_below_the_cache_may_wrap_a_plain_function(connect: Connect) -> None:
    app, cache = _app()

    def awaited(function: Any) -> Any:
        @functools.wraps(function)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    @app.get("/")
    @cache(ttl=60)
    @awaited
    def me() -> str:
        return "x"

    async with connect(app) as client:
        for _ in range(2):
            assert (await client.get("/")).json() == "x"


async def test_an_error_shared_by_many_does_not_grow_with_them() -> None:
    cache, go = Cache(), asyncio.Event()

    @cache(ttl=60)
    async def fails(n: int) -> int:
        await go.wait()
        raise ValueError(n)

    tasks = [asyncio.create_task(fails(1)) for _ in range(200)]
    await asyncio.sleep(0)
    go.set()
    error = (await asyncio.gather(*tasks, return_exceptions=True))[-1]
    assert isinstance(error, ValueError)
    assert len(traceback.extract_tb(error.__traceback__)) < 40


async def test_an_invalidation_that_is_owed_is_paid_after_the_backend_was_closed(
    fault_server: RedisServer,
) -> None:
    backend = RedisBackend(fault_server.url, timeout=0.05)
    cache, calls = Cache(backend.store), 0

    @cache(ttl=60)
    async def counted(n: int) -> int:
        nonlocal calls
        calls += 1
        return n

    async with backend, cache:
        await counted(1)
        fault_server.hang()
        assert not await cache.invalidate(counted, n=1)
    fault_server.resume()
    async with backend, cache, asyncio.timeout(5):
        before = -1
        while before != calls:
            before = calls
            await counted(1)
            await asyncio.sleep(0.02)
    assert calls > 1


async def test_replies_reach_their_callers_whatever_is_cancelled_late_or_cut(
    fault_server: RedisServer,
) -> None:
    right = wrong = 0
    dice = random.Random(1)

    async def ask(store: Any) -> None:
        nonlocal right, wrong
        keys = dice.sample(sorted(VALUES), dice.randint(1, 5))
        with suppress(TimeoutError, UnavailableError):
            async with asyncio.timeout(dice.choice([0, 0.0001, 0.001, 0.01, 1])):
                found = await store.get(*keys)
            right += found == [VALUES[key] for key in keys]
            wrong += found != [VALUES[key] for key in keys]

    async with RedisBackend(fault_server.url, timeout=0.1) as backend:
        for key, value in VALUES.items():
            await backend.store.set(key, value, ttl=100)
        for number in range(8):
            if number == 4:
                fault_server.hang()
            tasks = [asyncio.create_task(ask(backend.store)) for _ in range(150)]
            await asyncio.sleep(0)
            for task in dice.sample(tasks, 40):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if number == 4:
                fault_server.resume()
                await asyncio.sleep(0.4)  # for longer than the link waits before it connects again
    assert right > 100
    assert wrong == 0


@pytest.mark.parametrize("inside", [False, True])
async def test_what_middleware_of_a_mounted_app_adds_is_not_kept(connect: Connect, *, inside: bool) -> None:
    app, cache = _app()
    mounted = FastAPI()

    @mounted.middleware("http")
    async def number(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers.append("x-number", request.headers["number"])
        return response

    if inside:
        mounted.add_middleware(CacheMiddleware)

    @mounted.get("/")
    @cache(ttl=60)
    async def page() -> str:
        return "x"

    app.mount("/m", mounted)
    async with connect(app) as client:
        for number_ in ("1", "2"):
            answer = await client.get("/m/", headers={"number": number_})
            assert answer.headers.get_list("x-number") == [number_]
    assert ("hit" in answer.headers["cache-status"]) is inside


class _Number:
    """Adds to a response what only its own request may see."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                number = dict(scope["headers"])[b"number"]
                message = {**message, "headers": [*message["headers"], (b"x-number", number)]}
            await send(message)

        await self.app(scope, receive, add)


@pytest.mark.parametrize("kind", ["mount", "router", "app around it", "mount in an app"])
async def test_what_any_middleware_on_the_way_adds_is_not_kept(connect: Connect, kind: str) -> None:
    app, cache = _app()
    inner = FastAPI()

    @inner.get("/")
    @cache(ttl=60)
    async def page() -> str:
        return "x"

    below = [Middleware(_Number)]
    if kind == "mount":
        app.router.routes.append(Mount("/m", inner, middleware=below))
    elif kind == "router":
        app.mount("/m", Router(inner.routes, middleware=below))
    else:
        outer = FastAPI(middleware=below if kind == "app around it" else [])
        outer.router.routes.append(Mount("/", inner, middleware=[] if outer.user_middleware else below))
        app.mount("/m", outer)
    async with connect(app) as client:
        for number in ("1", "2"):
            answer = await client.get("/m/", headers={"number": number})
            assert answer.headers.get_list("x-number") == [number]
    assert "add CacheMiddleware to it" in answer.headers["cache-status"]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_route_class_that_handles_requests_itself_is_private(
    connect: Connect, *, shared: bool
) -> None:
    class Named(APIRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def named(request: Request) -> Response:
                response = await handle(request)
                response.headers.append("x-number", request.headers["number"])
                return response

            return named

    app, cache = _app()
    router = APIRouter(route_class=Named)

    @router.get("/")
    @cache(ttl=60, shared=shared)
    async def page() -> str:
        return "x"

    app.include_router(router, prefix="/r")
    async with connect(app) as client:
        for number in ("1", "2"):
            answer = await client.get("/r/", headers={"number": number})
            assert answer.headers.get_list("x-number")[-1] == number
    if not shared:
        assert answer.headers.get_list("x-number") == ["2"]
        assert "Named reads the raw request" in answer.headers["cache-status"]
    assert ("hit" in answer.headers["cache-status"]) is shared


VALUES = {f"key {n}": b"%d" % n * (n % 7 * 2000 + 1) for n in range(100)}
