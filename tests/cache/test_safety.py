"""Nobody receives what was made for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from secrets import token_urlsafe
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Query, Request, Response, Security
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from pydantic import BaseModel

from fastapi_prodkit import Cache, CacheMiddleware, JWTAuth, MemoryBackend, RedisBackend
from fastapi_prodkit.auth import Claims, query

from ..servers import RedisServer
from .conftest import Connect
from .test_http import Clock

who: ContextVar[str] = ContextVar("who", default="nobody")


class Session:
    """An object with no identity but its address."""

    def __init__(self, user: str) -> None:
        self.user = user


SCHEMES: dict[str, tuple[Any, Any]] = {
    "Authorization": (
        OAuth2PasswordBearer("/token"),
        lambda user: {"headers": {"authorization": f"bearer {user}"}},
    ),
    "Cookie": (APIKeyCookie(name="session"), lambda user: {"headers": {"cookie": f"session={user}"}}),
    "X-API-Key": (APIKeyHeader(name="X-API-Key"), lambda user: {"headers": {"x-api-key": user}}),
    "query key": (APIKeyQuery(name="key"), lambda user: {"params": {"key": user}}),
}


def _by_value(app: FastAPI, cache: Cache, scheme: Any) -> None:
    async def user(key: str = Security(scheme)) -> str:
        return key.removeprefix("bearer ")

    @app.get("/")
    @cache(ttl=60)
    async def me(name: str = Depends(user)) -> str:
        return name


def _by_request_state(app: FastAPI, cache: Cache, scheme: Any) -> None:
    async def user(request: Request, key: str = Security(scheme)) -> None:
        request.state.user = key

    @app.get("/", dependencies=[Depends(user)])
    @cache(ttl=60)
    async def me(request: Request) -> str:
        name: str = request.state.user
        return name


def _by_context_variable(app: FastAPI, cache: Cache, scheme: Any) -> None:
    async def user(key: str = Security(scheme)) -> None:
        who.set(key)

    @app.get("/", dependencies=[Depends(user)])
    @cache(ttl=60)
    async def me() -> str:
        return who.get()


def _by_injected_object(app: FastAPI, cache: Cache, scheme: Any) -> None:
    async def session(key: str = Security(scheme)) -> AsyncIterator[Session]:
        yield Session(key)

    @app.get("/")
    @cache(ttl=60)
    async def me(session: Session = Depends(session)) -> str:
        return session.user


@pytest.mark.parametrize("channel", [_by_value, _by_request_state, _by_context_variable, _by_injected_object])
@pytest.mark.parametrize("place", SCHEMES)
async def test_everyone_receives_their_own(connect: Connect, place: str, channel: Any) -> None:
    scheme, as_user = SCHEMES[place]
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    channel(app, Cache(), scheme)
    async with connect(app) as client:
        for user in ("ann", "bob", "ann", "bob"):
            answer = await client.get("/", **as_user(user))
            assert user in answer.json()
        anonymous = await client.get("/")
    assert anonymous.status_code in (401, 403)


@pytest.mark.parametrize("scheme", [HTTPBearer(), HTTPBasic()], ids=["bearer", "basic"])
async def test_http_schemes_are_part_of_the_key(connect: Connect, scheme: Any) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def me(given: HTTPAuthorizationCredentials | HTTPBasicCredentials = Security(scheme)) -> str:
        return given.credentials if isinstance(given, HTTPAuthorizationCredentials) else given.username

    async with connect(app) as client:
        for user in ("ann", "bob", "ann"):
            auth = {"auth": (user, "x")} if isinstance(scheme, HTTPBasic) else {}
            headers = {} if auth else {"authorization": f"Bearer {user}"}
            assert (await client.get("/", headers=headers, **auth)).json() == user  # type: ignore[arg-type]  # one of both


@pytest.mark.parametrize("in_query", [False, True], ids=["header", "query"])
async def test_tokens_of_jwt_auth_are_part_of_the_key_and_checked_on_hits(
    connect: Connect, *, in_query: bool
) -> None:
    source: dict[str, Any] = {"sources": [query("token")]} if in_query else {}
    auth = JWTAuth(token_urlsafe(48), algorithms=["HS256"], **source)
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/")
    @cache(ttl=60)
    async def me(claims: Claims = Depends(auth)) -> str:
        calls.append(1)
        return claims.subject

    def asked(token: str) -> dict[str, Any]:
        return {"params": {"token": token}} if in_query else {"headers": {"authorization": f"Bearer {token}"}}

    tokens = {user: auth.issue(user, ttl=60) for user in ("ann", "bob")}
    async with connect(app) as client:
        for user in ("ann", "bob", "ann", "bob"):
            assert (await client.get("/", **asked(tokens[user]))).json() == user
        assert len(calls) == 2
        assert (await client.get("/", **asked("forged"))).status_code == 401
        assert (await client.get("/")).status_code == 401


async def test_credentials_that_nobody_declares_keep_answers_apart(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()

    async def identify(request: Request, call_next: Any) -> Any:
        who.set(request.headers.get("authorization", "nobody"))
        return await call_next(request)

    app.middleware("http")(identify)
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def me() -> str:
        return who.get()

    async with connect(app) as client:
        for user in ("ann", "bob", "ann"):
            answer = await client.get("/", headers={"authorization": user})
            assert answer.json() == user
            assert answer.headers["cache-control"] == "private, no-cache"
            assert answer.headers["vary"] == "authorization"
        assert (await client.get("/")).json() == "nobody"


@pytest.mark.parametrize(
    ("scheme", "field"),
    [
        (APIKeyHeader(name="X-Token", auto_error=False), "x-token"),
        (APIKeyCookie(name="session", auto_error=False), "cookie"),
        (OAuth2PasswordBearer("/token", auto_error=False), "authorization"),
    ],
    ids=["header", "cookie", "authorization"],
)
async def test_a_cache_on_the_way_is_told_whose_the_answer_is(
    connect: Connect, scheme: Any, field: str
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60, max_age=60)
    async def me(user: str | None = Security(scheme)) -> str:
        return user or "nobody"

    secret = {"cookie": "session=ann", "authorization": "bearer ann"}.get(field, "ann")
    async with connect(app) as client:
        for _ in range(2):
            nobodys = await client.get("/")
            anns = await client.get("/", headers={field: secret})
            assert (nobodys.json(), anns.json()) == ("nobody", "ann")
            assert (nobodys.headers["vary"], anns.headers["vary"]) == (field, field)
            assert nobodys.headers["cache-control"] == "max-age=60"
            assert anns.headers["cache-control"] == "private, max-age=60"
    assert "hit" in anns.headers["cache-status"]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("field", ["x-token", "cookie"])
async def test_the_answer_for_a_group_is_not_handed_on_by_a_cache_on_the_way(
    connect: Connect, field: str, *, shared: bool
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    schemes: dict[str, Any] = {"x-token": APIKeyHeader(name="X-Token"), "cookie": APIKeyCookie(name="id")}

    async def plan_of(user: str = Security(schemes[field])) -> str:
        return {"ann": "paid"}.get(user, "free")

    @app.get("/")
    @cache(ttl=60, max_age=60, key=lambda plan: plan, shared=shared)
    async def index(plan: str = Depends(plan_of)) -> str:
        return plan

    async with connect(app) as client:
        for user, plan in (("ann", "paid"), ("bob", "free"), ("eve", "free")):
            secret = user if field == "x-token" else f"id={user}"
            answer = await client.get("/", headers={field: secret})
            assert answer.json() == plan
            assert answer.headers["cache-control"] == ("max-age=60" if shared else "private, max-age=60")
    assert "hit" in answer.headers["cache-status"], "it is the answer for the group"


async def test_a_cookie_that_a_dependency_sets_is_not_handed_on_by_a_cache_on_the_way(
    connect: Connect,
) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    async def visit(response: Response, new: Annotated[bool, Header()] = False) -> None:
        if new:
            response.set_cookie("visit", token_urlsafe(8))

    @app.get("/{kind}", dependencies=[Depends(visit)])
    @cache(ttl=60, max_age=60)
    async def page(kind: str, response: Response) -> int:
        if kind == "public":
            response.headers["cache-control"] = "public, max-age=60"
        return 1

    async with connect(app) as client:
        for _ in range(2):
            answer = await client.get("/plain", headers={"new": "1"})
            client.cookies.clear()
            assert "set-cookie" in answer.headers
            assert answer.headers["cache-control"] == "private, max-age=60"
            assert (await client.get("/plain")).headers["cache-control"] == "max-age=60"
            answer = await client.get("/public", headers={"new": "1"})
            client.cookies.clear()
            assert answer.headers["cache-control"] == "public, max-age=60", "it was asked for"
    assert "hit" in answer.headers["cache-status"]


async def test_a_refresh_after_a_change_of_plan_leaves_the_answer_of_the_old_plan_alone(
    connect: Connect,
) -> None:
    clock = Clock()
    app, cache = FastAPI(), Cache(clock=clock)
    app.add_middleware(CacheMiddleware)
    plans = {"ann": "free", "bob": "free"}
    replayed = asyncio.Event()

    async def plan_of(authorization: Annotated[str, Header()]) -> AsyncIterator[str]:
        plan = plans[authorization]
        if clock.now > 1_700_000_015:
            plans["ann"] = "paid"  # between the request and its refresh
        yield plan
        if plan == "paid":
            replayed.set()

    @app.get("/")
    @cache(ttl=10, stale=100, key=lambda plan: plan)
    async def index(plan: str = Depends(plan_of)) -> str:
        return f"for {plan}"

    async with connect(app) as client, asyncio.timeout(5):
        await client.get("/", headers={"authorization": "ann"})
        clock.now += 20
        assert (await client.get("/", headers={"authorization": "ann"})).json() == "for free"
        await replayed.wait()
        assert (await client.get("/", headers={"authorization": "bob"})).json() == "for free"
        assert (await client.get("/", headers={"authorization": "ann"})).json() == "for paid"


async def test_shared_is_one_answer_for_everybody_and_still_refuses(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    async def member(key: str = Security(APIKeyHeader(name="x-api-key"))) -> None:
        if key == "expired":
            raise HTTPException(403)

    @app.get("/", dependencies=[Depends(member)])
    @cache(ttl=60, shared=True)
    async def index() -> int:
        calls.append(1)
        return len(calls)

    async with connect(app) as client:
        for key, etag in (("ann", ""), ("bob", '"x"'), ("expired", "*")):
            headers = {"x-api-key": key, "cookie": f"id={key}", "if-none-match": etag}
            answer = await client.get("/", headers=headers)
            assert answer.status_code == (403 if key == "expired" else 200)
    assert calls == [1]


async def test_shared_leaves_declared_credentials_out_and_other_parameters_in(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    async def user(authorization: Annotated[str, Header()], x_lang: Annotated[str, Header()]) -> str:
        return authorization

    @app.get("/", dependencies=[Depends(user)])
    @cache(ttl=60, shared=True)
    async def index(theme: Annotated[str, Cookie()]) -> str:
        calls.append(theme)
        return theme

    async with connect(app) as client:
        for name, lang, theme in (
            ("ann", "de", "a"),
            ("bob", "de", "a"),
            ("bob", "en", "a"),
            ("bob", "en", "b"),
        ):
            headers = {"authorization": name, "x-lang": lang, "cookie": f"theme={theme}; id={name}"}
            assert (await client.get("/", headers=headers)).json() == theme
    assert calls == ["a", "a", "b"]


async def test_a_route_that_reads_the_raw_request_is_private(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    async def tenant(request: Request) -> str:
        return request.headers.get("x-tenant", "")

    @app.get("/private")
    @cache(ttl=60)
    async def private(name: str = Depends(tenant)) -> str:
        return name

    @app.get("/keyed")
    @cache(ttl=60, key=lambda name: name)
    async def keyed(name: str = Depends(tenant)) -> str:
        return name

    @app.get("/shared")
    @cache(ttl=60, shared=True, vary=["x-tenant"])
    async def shared(request: Request) -> str:
        return f"{request.headers.get('x-tenant')} {request.url}"

    async with connect(app) as client:
        for path in ("/private", "/keyed"):
            for name in ("a", "b", "a"):
                answer = await client.get(path, headers={"x-tenant": name})
                assert answer.json() == name
                note = answer.headers["cache-status"]
        assert note == "prodkit; hit; ttl=59"
        answer = await client.get("/private")
        assert answer.headers["cache-status"].startswith("prodkit; fwd=bypass")
        assert "tenant reads the raw request" in answer.headers["cache-status"]
        for path in ("/shared?a=1", "/shared?a=2", "http://other/shared?a=1"):
            for name in ("a", "b"):
                answer = await client.get(path, headers={"x-tenant": name})
                assert answer.json() == f"{name} {answer.request.url}"


async def test_overridden_dependencies_bring_their_own_inputs(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    async def plain() -> str:
        return "plain"

    async def by_header(x_user: Annotated[str, Header()]) -> str:
        return x_user

    @app.get("/")
    @cache(ttl=60)
    async def me(user: str = Depends(plain)) -> str:
        return user

    async with connect(app) as client:
        assert (await client.get("/")).json() == "plain"
        app.dependency_overrides[plain] = by_header
        for user in ("ann", "bob"):
            assert (await client.get("/", headers={"x-user": user})).json() == user


async def test_undeclared_query_parameters_make_no_new_entries(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/")
    @cache(ttl=60)
    async def index(q: Annotated[str, Query()] = "") -> int:
        calls.append(q)
        return len(calls)

    async with connect(app) as client:
        for number in range(20):
            await client.get(f"/?q=1&utm_source={number}")
    assert calls == ["1"]


class Public(BaseModel):
    name: str


class Private(Public):
    password: str = "hunter2"


async def test_only_what_the_client_may_see_is_stored(connect: Connect, redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, timeout=2) as backend:
        app, cache = FastAPI(), Cache(backend.store)
        app.add_middleware(CacheMiddleware)

        @app.get("/", response_model=Public)
        @cache(ttl=60, tags=["user:ann@example.com"])
        async def me(x_token: Annotated[str, Header()]) -> Private:
            return Private(name="ann")

        async with connect(app) as client:
            await client.get("/", headers={"x-token": "topsecret", "authorization": "Bearer abcdef"})
        keys = redis_server.command("KEYS", "*").split("\r\n")[2::2]
        values = await backend.store.get(*(key.removeprefix("prodkit:") for key in keys))
    dump = b"".join(filter(None, values))
    assert b'{"name":"ann"}' in dump
    for secret in ("hunter2", "password", "topsecret", "abcdef", "ann@example.com"):
        assert secret.encode() not in dump
        assert not any(secret in key for key in keys)


@pytest.mark.parametrize(
    "field", ["private", "no-store", "no-cache", "max-age=0", "s-maxage=0, max-age=60", "private, max-age=60"]
)
async def test_what_the_endpoint_forbids_is_not_stored(connect: Connect, field: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> int:
        calls.append(1)
        response.headers["cache-control"] = field
        return len(calls)

    async with connect(app) as client:
        for _ in range(2):
            answer = await client.get("/")
            assert answer.headers["cache-control"] == field
    assert len(calls) == 2
    assert "detail=" in answer.headers["cache-status"]


@pytest.mark.parametrize("field", ["private", "no-store", "no-cache", "private, max-age=60"])
async def test_what_a_dependency_forbids_is_not_stored(connect: Connect, field: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    async def forbid(response: Response) -> None:
        response.headers["cache-control"] = field

    @app.get("/", dependencies=[Depends(forbid)])
    @cache(ttl=60, shared=True)
    async def index() -> int:
        calls.append(1)
        return len(calls)

    async with connect(app) as client:
        for _ in range(2):
            answer = await client.get("/")
            assert answer.headers.get_list("cache-control") == [field]
    assert len(calls) == 2


@pytest.mark.parametrize("age", ["\u00b2", "-1", "1.5", "x", "", "9" * 400])
async def test_a_max_age_that_is_none_changes_nothing(connect: Connect, age: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> int:
        response.headers["cache-control"] = f"max-age={age}"
        return 1

    async with connect(app) as client:
        assert (await client.get("/")).status_code == 200
        assert "; hit; ttl=" in (await client.get("/")).headers["cache-status"]


async def test_two_apps_on_one_store_do_not_meet(connect: Connect) -> None:
    backend = MemoryBackend()

    def build(name: str, **options: Any) -> FastAPI:
        app, cache = FastAPI(), Cache(backend.store, **options)
        app.add_middleware(CacheMiddleware)

        @app.get("/")
        @cache(ttl=60)
        async def index() -> str:
            return name

        return app

    async with connect(build("one", namespace="one")) as one, connect(build("two", namespace="two")) as two:
        answers: list[httpx2.Response] = [await client.get("/") for client in (one, two, one, two)]
    assert [answer.json() for answer in answers] == ["one", "two", "one", "two"]


async def test_names_are_taken_literally(redis_server: RedisServer) -> None:
    evil = "'); redis.call('FLUSHALL'); --\r\nFLUSHALL\r\n{0} *"
    redis_server.command("SET", "bystander", "1")
    async with RedisBackend(redis_server.url, timeout=5) as backend:
        cache = Cache(backend.store, namespace=evil)

        async def compute() -> str:
            return evil

        for _ in range(2):
            assert await cache.get_or_set(evil, compute, ttl=60, tags=["x" + evil]) == evil
        assert await cache.invalidate_tags("x" + evil)
        assert await cache.clear()
    assert "1" in redis_server.command("GET", "bystander")


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_yield_dependencies_end_well_on_hits(connect: Connect, kind: str) -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    ended: list[str] = []

    async def session() -> AsyncIterator[int]:
        try:
            yield 1
        except BaseException:
            ended.append("rolled back")
            raise
        ended.append("committed")

    def sync_session() -> Iterator[int]:
        try:
            yield 1
        except BaseException:
            ended.append("rolled back")
            raise
        ended.append("committed")

    chosen = session if kind == "async" else sync_session

    @app.get("/")
    @cache(ttl=60)
    async def index(value: int = Depends(chosen)) -> int:
        return value

    async with connect(app) as client:
        etag = (await client.get("/")).headers["etag"]
        await client.get("/")
        assert (await client.get("/", headers={"if-none-match": etag})).status_code == 304
    assert ended == ["committed"] * 3


def test_one_cache_serves_several_event_loops() -> None:
    app, cache = FastAPI(), Cache()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/")
    @cache(ttl=60, stale=60)
    async def index() -> int:
        calls.append(1)
        await asyncio.sleep(0.001)
        return len(calls)

    async def visit() -> set[int]:
        transport = httpx2.ASGITransport(app=app)
        async with cache, httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return {answer.json() for answer in await asyncio.gather(*(client.get("/") for _ in range(9)))}

    assert [asyncio.run(visit()) for _ in range(3)] == [{1}] * 3
    asyncio.run(cache.clear())
    assert asyncio.run(visit()) == {2}
