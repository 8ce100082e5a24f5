"""RFC 9110, 9111 and 9211, as a client sees them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fastapi_prodkit import Cache, CacheMiddleware

from .conftest import Connect


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def build(cache: Cache, **options: object) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    app.state.calls = 0

    @app.get("/")
    @cache(ttl=60, **options)  # type: ignore[arg-type]  # any options
    async def index(response: Response) -> dict[str, int]:
        app.state.calls += 1
        response.headers["last-modified"] = "Sat, 03 Jan 2026 00:00:00 GMT"
        return {"a": 1}

    return app


async def _etag(client: httpx2.AsyncClient) -> str:
    etag: str = (await client.get("/")).headers["etag"]
    return etag


@pytest.mark.parametrize("warm", [True, False], ids=["hit", "miss"])
@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ('"a,b" , W/"x",{etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ('"other", "more"', 200),
    ],
)
async def test_if_none_match(connect: Connect, field: str, status: int, *, warm: bool) -> None:
    cache = Cache()
    app = build(cache)
    async with connect(app) as client:
        etag = await _etag(client)
        if not warm:
            await cache.clear()
        answer = await client.get("/", headers={"if-none-match": field.format(etag=etag)})
    assert answer.status_code == status
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.content == (b"" if status == 304 else b'{"a":1}')
    assert ("content-length" in answer.headers) == (status == 200)


@pytest.mark.parametrize(
    ("since", "status"),
    [
        ("Sat, 03 Jan 2026 00:00:00 GMT", 304),
        ("Sun, 04 Jan 2026 00:00:00 GMT", 304),
        ("Fri, 02 Jan 2026 00:00:00 GMT", 200),
        ("nonsense", 200),
    ],
)
async def test_if_modified_since(connect: Connect, since: str, status: int) -> None:
    async with connect(build(Cache())) as client:
        await client.get("/")
        assert (await client.get("/", headers={"if-modified-since": since})).status_code == status
        both = {"if-modified-since": since, "if-none-match": '"other"'}
        assert (await client.get("/", headers=both)).status_code == 200, "If-None-Match goes first"


def test_the_etag_is_strong_and_the_same_in_every_process() -> None:
    from fastapi_prodkit.cache.http import etag_of

    script = "from fastapi_prodkit.cache.http import etag_of; print(etag_of(b'x' * 1000).decode())"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == etag_of(b"x" * 1000).decode()
    assert not process.stdout.startswith("W/")


async def test_age_grows_and_ends_with_the_ttl(connect: Connect) -> None:
    clock = Clock()
    app = build(Cache(clock=clock))
    async with connect(app) as client:
        assert "age" not in (await client.get("/")).headers
        clock.now += 42
        hit = await client.get("/")
        assert hit.headers["age"] == "42"
        assert hit.headers["cache-status"] == "prodkit; hit; ttl=18"
        clock.now += 18
        assert "age" not in (await client.get("/")).headers
    assert app.state.calls == 2


@pytest.mark.parametrize(
    ("fields", "ttl"),
    [
        ({"expires": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
        ({"expires": "Tue, 14 Nov 2023 22:13:30 GMT", "cache-control": "max-age=20"}, 20),
        ({"expires": "Tue, 14 Nov 2023 23:13:30 GMT"}, 60),
        ({"expires": "Tue, 14 Nov 2023 22:13:20 GMT"}, 0),
        ({"expires": "0"}, 0),
    ],
)
async def test_an_answer_ends_with_its_expires(connect: Connect, fields: dict[str, str], ttl: int) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    calls = 0

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> int:
        nonlocal calls
        calls += 1
        response.headers.update(fields)
        return calls

    async with connect(app) as client:
        await client.get("/")
        assert (await client.get("/")).json() == (1 if ttl else 2)
        clock.now += ttl - 0.5
        assert (await client.get("/")).json() == (1 if ttl else 3)
        clock.now += 1
        assert (await client.get("/")).json() == (2 if ttl else 4)


@pytest.mark.parametrize("by", ["response", "injected response", "dependency"])
async def test_an_answer_that_has_an_age_grows_older_from_there(connect: Connect, by: str) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)

    def old(response: Response) -> None:
        response.headers["Age"] = "40"

    @app.get("/", dependencies=[Depends(old)] if by == "dependency" else [])
    @cache(ttl=60)
    async def index(response: Response) -> Any:
        if by == "injected response":
            old(response)
        return JSONResponse(1, headers={"Age": "40"}) if by == "response" else 1

    left = 60 if by == "dependency" else 20
    async with connect(app) as client:
        assert (await client.get("/")).headers.get_list("age") == ["40"]
        clock.now += 5
        for _ in range(2):
            hit = await client.get("/")
            assert hit.headers.get_list("age") == [str(65 - left)]
            assert hit.headers["cache-status"] == f"prodkit; hit; ttl={left - 5}"
        clock.now += left - 5
        assert "fwd=stale" in (await client.get("/")).headers["cache-status"]


@pytest.mark.parametrize(
    ("fields", "ttl"),
    [
        ({"age": "40", "cache-control": "max-age=50"}, 10),
        ({"age": "40", "cache-control": "max-age=40"}, 0),
        ({"age": "60"}, 0),
        ({"age": "9" * 400}, 0),
        ({"age": "40, 70"}, 20),
        ({"age": "old"}, 60),
        ({"age": "-1"}, 60),
        ({"age": "40", "expires": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
    ],
)
async def test_an_age_is_taken_off_the_time_for_which_an_answer_is_fresh(
    connect: Connect, fields: dict[str, str], ttl: int
) -> None:
    app, cache = FastAPI(), Cache(clock=Clock())
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> int:
        response.headers.update(fields)
        return 1

    async with connect(app) as client:
        await client.get("/")
        says = (await client.get("/")).headers["cache-status"]
    assert says == (f"prodkit; hit; ttl={ttl}" if ttl else 'prodkit; fwd=miss; detail="expires at once"')


@pytest.mark.parametrize("by", ["response", "injected response"])
async def test_what_is_about_the_connection_is_not_stored(connect: Connect, by: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    fields = {
        "Connection": "close, X-Hop,Cache-Control",
        "X-Hop": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Trailer": "x-sum",
        "Transfer-Encoding": "identity",
        "Upgrade": "h2c",
        "Proxy-Authenticate": "Basic",
        "Proxy-Connection": "close",
    }

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> Any:
        given = response if by == "injected response" else JSONResponse(1)
        given.headers.update({**fields, "X-Kept": "1"})
        return 1 if given is response else given

    async with connect(app) as client:
        miss, hit, again = [await client.get("/") for _ in range(3)]
    assert all(name in miss.headers for name in fields), "the server sees to them"
    for each in (hit, again):
        assert "; hit" in each.headers["cache-status"]
        assert not set(each.headers).intersection(map(str.lower, fields))
        assert each.headers["x-kept"] == "1"
        assert each.headers["cache-control"] == miss.headers["cache-control"]


async def test_max_age_tells_clients_that_they_need_not_ask(connect: Connect) -> None:
    async with connect(build(Cache(), max_age=30)) as client:
        for _ in range(2):
            assert (await client.get("/")).headers["cache-control"] == "max-age=30"


async def test_only_if_cached_is_never_computed(connect: Connect) -> None:
    app = build(Cache())
    async with connect(app) as client:
        headers = {"cache-control": "only-if-cached"}
        assert (await client.get("/", headers=headers)).status_code == 504
        assert app.state.calls == 0
        await client.get("/")
        assert (await client.get("/", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"cache-control": "no-cache"}, {"cache-control": "max-age=0"}, {"pragma": "no-cache"}]
)
@pytest.mark.parametrize("obeys", [False, True])
async def test_whether_clients_are_obeyed_is_an_option(
    connect: Connect, headers: dict[str, str], *, obeys: bool
) -> None:
    app = build(Cache(obeys_clients=obeys))
    async with connect(app) as client:
        await client.get("/")
        answer = await client.get("/", headers=headers)
        assert app.state.calls == (2 if obeys else 1)
        assert ("fwd=request" in answer.headers["cache-status"]) == obeys
        assert "; hit" in (await client.get("/")).headers["cache-status"]


@pytest.mark.parametrize(
    ("control", "suits"),
    [
        ("max-age=30", True),
        ("max-age=29", False),
        ("min-fresh=30", True),
        ("min-fresh=31", False),
        ("max-age=40, min-fresh=31", False),
        ("max-age=old", True),
    ],
)
@pytest.mark.parametrize("obeys", [False, True])
async def test_an_answer_that_is_too_old_for_a_client_is_computed(
    connect: Connect, control: str, *, obeys: bool, suits: bool
) -> None:
    clock = Clock()
    app = build(Cache(obeys_clients=obeys, clock=clock))
    headers = {"cache-control": control}
    only = {"cache-control": f"{control}, only-if-cached"}
    async with connect(app) as client:
        await client.get("/", headers=headers)
        clock.now += 30
        is_hit = suits or not obeys
        assert (await client.get("/", headers=only)).status_code == (200 if is_hit else 504)
        answers = await asyncio.gather(*(client.get("/", headers=headers) for _ in range(3)))
        assert app.state.calls == (1 if is_hit else 2)
        says = answers[0].headers["cache-status"]
        assert says == ("prodkit; hit; ttl=30" if is_hit else "prodkit; fwd=request; stored")
        assert "; hit" in (await client.get("/")).headers["cache-status"]


async def test_a_client_that_says_max_age_gets_nothing_stale(connect: Connect) -> None:
    clock = Clock()
    app = build(Cache(obeys_clients=True, clock=clock), stale=60)
    async with connect(app) as client:
        await client.get("/")
        clock.now += 70
        answer = await client.get("/", headers={"cache-control": "max-age=90"})
        assert answer.headers["cache-status"] == "prodkit; fwd=stale; stored"


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "max-stale=60"])
async def test_an_answer_to_head_that_a_client_had_computed_is_not_kept_for_get(
    connect: Connect, control: str
) -> None:
    class Download(Response):  # as a FileResponse does
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            body = b"" if scope["method"] == "HEAD" else self.body
            await send({"type": "http.response.body", "body": body})

    app, cache = FastAPI(), Cache(obeys_clients=True)
    app.add_middleware(CacheMiddleware)

    @app.api_route("/", methods=["GET", "HEAD"])
    @cache(ttl=60)
    async def download() -> Download:
        return Download("content")

    async with connect(app) as client:
        assert (await client.head("/", headers={"cache-control": control})).content == b""
        assert (await client.get("/")).content == b"content"


async def test_no_store_asked_by_a_client_is_obeyed_where_clients_are(connect: Connect) -> None:
    app = build(Cache(obeys_clients=True))
    async with connect(app) as client:
        for _ in range(2):
            await client.get("/", headers={"cache-control": "no-store"})
        assert app.state.calls == 2
        assert "stored" in (await client.get("/")).headers["cache-status"]


async def test_a_304_comes_only_after_the_dependencies(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    closed = False

    async def door() -> None:
        if closed:
            raise HTTPException(401)

    @app.get("/", dependencies=[Depends(door)])
    @cache(ttl=60)
    async def index() -> int:
        return 1

    async with connect(app) as client:
        etag = await _etag(client)
        closed = True
        assert (await client.get("/", headers={"if-none-match": etag})).status_code == 401
        assert (await client.get("/", headers={"if-none-match": "*"})).status_code == 401


@pytest.mark.parametrize("validator", ["etag", "last-modified"])
async def test_a_post_is_never_answered_with_304(connect: Connect, validator: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.post("/")
    @cache(ttl=60, methods=["POST"])
    async def search(response: Response) -> int:
        response.headers["last-modified"] = "Sat, 03 Jan 2026 00:00:00 GMT"
        return 1

    field = {"etag": "if-none-match", "last-modified": "if-modified-since"}[validator]
    async with connect(app) as client:
        known = (await client.post("/")).headers[validator]
        for _ in range(2):
            assert (await client.post("/", headers={field: known})).status_code == 200
            await cache.clear()


@pytest.mark.parametrize("by", ["endpoint", "dependency"])
async def test_an_etag_of_the_apps_own_is_the_only_one(connect: Connect, by: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    def version(response: Response) -> None:
        response.headers["etag"] = '"v1"'

    @app.get("/", dependencies=[Depends(version)] if by == "dependency" else [])
    @cache(ttl=60)
    async def index(response: Response) -> int:
        if by == "endpoint":
            version(response)
        return 1

    async with connect(app) as client:
        for _ in range(2):
            assert (await client.get("/")).headers.get_list("etag") == ['"v1"']
            assert (await client.get("/", headers={"if-none-match": '"v1"'})).status_code == 304
            await cache.clear()
            assert (await client.get("/", headers={"if-none-match": '"v1"'})).status_code == 304


async def test_a_validator_of_another_resource_does_not_match(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/{name}")
    @cache(ttl=60)
    async def read(name: str) -> str:
        return name

    async with connect(app) as client:
        other = (await client.get("/a")).headers["etag"]
        for _ in range(2):
            answer = await client.get("/b", headers={"if-none-match": other})
            assert (answer.status_code, answer.json()) == (200, "b")


@pytest.mark.parametrize(
    ("vary", "stored"), [("Accept-Language", False), ("*", False), ("X-Known", True), ("Cookie", True)]
)
async def test_vary_of_the_endpoint_must_be_part_of_the_key(
    connect: Connect, vary: str, *, stored: bool
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60, vary=["x-known"])
    async def index(response: Response) -> int:
        response.headers["vary"] = vary
        return 1

    async with connect(app) as client:
        for _ in range(2):
            answer = await client.get("/")
    assert ("; hit" in answer.headers["cache-status"]) == stored
    if not stored:
        assert f"varies by {vary.lower()}" in answer.headers["cache-status"]


async def test_cache_status_says_why_on_every_response(connect: Connect) -> None:
    app, cache = FastAPI(), Cache(max_bytes=10)
    app.add_middleware(CacheMiddleware)

    @app.api_route("/", methods=["GET", "PUT"])
    @cache(ttl=60)
    async def index(response: Response, kind: str = "") -> str:
        if kind == "cookie":
            response.set_cookie("a", "1")
        if kind == "error":
            raise HTTPException(500)
        return "x" * (20 if kind == "large" else 1)

    reasons = {
        "": "prodkit; fwd=miss; stored",
        "cookie": 'prodkit; fwd=miss; detail="sets a cookie"',
        "large": 'prodkit; fwd=miss; detail="too large"',
        "error": "prodkit; fwd=miss",
    }
    async with connect(app) as client:
        for kind, reason in reasons.items():
            assert (await client.get("/", params={"kind": kind})).headers["cache-status"] == reason
        assert (await client.put("/")).headers["cache-status"] == "prodkit; fwd=method"
        ranged = await client.get("/", headers={"range": "bytes=0-1"})
        assert ranged.headers["cache-status"] == 'prodkit; fwd=bypass; detail="range"'
        with cache.disabled():
            assert "disabled" in (await client.get("/")).headers["cache-status"]


async def test_cache_status_is_on_what_is_refused_before_the_endpoint_too(connect: Connect) -> None:
    app, inner, cache = FastAPI(), FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    inner.add_middleware(CacheMiddleware)

    async def door(closed: bool = False) -> None:
        if closed:
            raise HTTPException(401)

    @cache(ttl=60)
    async def index(number: int = 1) -> int:
        return number

    app.get("/", dependencies=[Depends(door)])(index)
    app.get("/plain", dependencies=[Depends(door)])(lambda: 1)
    inner.get("/", dependencies=[Depends(door)])(index)
    app.mount("/inner", inner)
    refused = 'prodkit; fwd=bypass; detail="answered before the endpoint"'
    async with connect(app) as client:
        for path in ("/", "/inner/"):
            assert (await client.get(path)).headers.get_list("cache-status") == ["prodkit; fwd=miss; stored"]
            for query in ("closed=1", "number=x"):
                answer = await client.get(f"{path}?{query}")
                assert answer.status_code in (401, 422)
                assert answer.headers.get_list("cache-status") == [refused]
        assert "cache-status" not in (await client.get("/plain")).headers
        assert "cache-status" not in (await client.get("/plain?closed=1")).headers
