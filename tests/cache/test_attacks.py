"""Requests and responses that were chosen to get past the cache."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Body, Depends, FastAPI, Form, Request, Response, UploadFile
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.routing import Host

from fastapi_prodkit import Cache, CacheMiddleware, MemoryBackend
from fastapi_prodkit.cache._entry import Entry

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
    raw = Entry(b"", 1.0, 2.0, 0.0, b"the whole body").to_bytes()
    assert Entry.from_bytes(raw) is not None
    assert Entry.from_bytes(raw[:-3]) is None
    nan = raw.replace(struct.pack("<d", 2.0), struct.pack("<d", float("nan")))
    assert Entry.from_bytes(nan) is None


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
