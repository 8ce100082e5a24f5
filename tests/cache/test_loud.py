"""What cannot work says so when it is built or when the app starts, with the mend."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, File, Query, Request, UploadFile, WebSocket
from pydantic_core import core_schema

from fastapi_prodkit import Cache, CacheMiddleware, ConfigurationError
from fastapi_prodkit._startup import check_routes

from .conftest import Connect


class Session:
    """Two of them are equal only if they are one."""


async def session() -> Session:
    return Session()


def checked(app: FastAPI) -> None:
    """What happens when the app starts."""
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    check_routes(app)


def installed() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    return app


def test_the_decorator_above_the_route_is_found() -> None:
    app, cache = installed(), Cache()

    @cache(ttl=1)
    @app.get("/")
    async def index() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"put @cache directly above `def index`, below @app\.get"):
        checked(app)


def test_a_decorator_between_the_route_and_the_cache_is_found() -> None:
    app, cache = installed(), Cache()

    def envelope(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper() -> Any:
            return {"data": await function()}

        return wrapper

    @app.get("/")
    @envelope
    @cache(ttl=1)
    async def index() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="below every other decorator"):
        checked(app)


def test_one_function_may_be_cached_on_one_route_and_plain_on_another() -> None:
    app, cache = installed(), Cache()

    async def index() -> int:
        return 1

    app.get("/plain")(index)
    app.get("/cached")(cache(ttl=1)(index))
    checked(app)


def test_generators_are_refused_where_they_are_decorated() -> None:
    cache = Cache()

    async def stream() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="stream is a generator"):
        cache(ttl=1)(stream)


def test_without_the_middleware_the_app_does_not_start() -> None:
    app, cache = FastAPI(), Cache()

    @app.get("/")
    @cache(ttl=1)
    async def index() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"app\.add_middleware\(CacheMiddleware\)"):
        checked(app)


async def test_without_any_middleware_of_ours_the_first_request_says_so(connect: Connect) -> None:
    app, cache = FastAPI(), Cache()

    @app.get("/")
    @cache(ttl=1)
    async def index() -> int:
        return 1

    async with connect(app) as client:
        with pytest.raises(ConfigurationError, match=r"app\.add_middleware\(CacheMiddleware\)"):
            await client.get("/")


def test_an_argument_without_a_value_identity_is_refused_by_name() -> None:
    cache = Cache()

    async def load(user: int, db: Session) -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"'db' of .*load is a Session.*key=lambda user"):
        cache(ttl=1)(load)
    cache(ttl=1, key=lambda user: user)(load)


async def test_a_value_without_identity_is_refused_by_name_where_nothing_is_annotated() -> None:
    @Cache()(ttl=1)
    async def load(thing) -> int:  # type: ignore[no-untyped-def]  # the case
        return 1

    assert await load(1) == 1
    with pytest.raises(ConfigurationError, match=r"'thing' of .*load cannot be cached by: .*__cache_key__"):
        await load(Session())


def test_a_key_that_would_have_to_be_awaited_is_refused() -> None:
    async def compute(value: int) -> int:
        return value

    with pytest.raises(ConfigurationError, match="is a coroutine function"):
        Cache()(ttl=60, key=compute)(compute)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("{", "cannot be filled in"),
        ("x:{number!x}", "cannot be filled in"),
        ("x:{number:{width}}", "names 'width', which .* does not take"),
        ("x:{other}", "names 'other', which .* does not take"),
        ("x:{holder}", "names 'holder', which has no text but its address.*holder.id"),
    ],
)
def test_a_tag_that_cannot_be_filled_in_is_refused(tag: str, message: str) -> None:
    async def compute(number: int, holder: Annotated[Session, Depends(session)]) -> int:
        return number

    with pytest.raises(ConfigurationError, match=message):
        Cache()(ttl=60, tags=[tag])(compute)
    Cache()(ttl=60, tags=["{{", "{number:{number}}", "{holder.id!r}"])(compute)


def test_a_file_cannot_be_part_of_a_key() -> None:
    app, cache = installed(), Cache()

    @app.post("/")
    @cache(ttl=1, methods=["POST"])
    async def upload(file: Annotated[UploadFile, File()]) -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"the file 'file' of .*upload cannot be part"):
        checked(app)


async def test_a_route_added_after_the_start_that_cannot_be_cached_fails_alone(connect: Connect) -> None:
    app, cache = installed(), Cache()

    @app.get("/")
    @cache(ttl=60)
    async def index() -> int:
        return 1

    async with connect(app) as client:
        await client.get("/")

        @app.post("/late")
        @cache(ttl=60, methods=["POST"])
        async def upload(file: Annotated[bytes, File()]) -> int:
            return 1

        app.get("/later")(cache(ttl=60)(_two))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"the file 'file' of .*upload cannot be part"):
                await client.post("/late", files={"file": b"x"})
            for path in ("/", "/later"):
                answer = await client.get(path)
        assert "hit" in answer.headers["cache-status"]
        assert (await client.post("/late")).status_code == 422


@pytest.mark.parametrize("make", [APIRouter, FastAPI, installed])
async def test_a_route_added_further_in_that_cannot_be_cached_fails_from_its_first_request_on(
    connect: Connect, make: Callable[[], APIRouter | FastAPI]
) -> None:
    app, inner, cache = installed(), make(), Cache()
    if isinstance(inner, APIRouter):
        app.include_router(inner, prefix="/inner")
    else:
        app.mount("/inner", inner)
    async with connect(app) as client:
        assert (await client.post("/inner/late")).status_code == 404

        @inner.post("/late")
        @cache(ttl=60, methods=["POST"])
        async def upload(file: Annotated[bytes, File()]) -> int:
            return 1

        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"the file 'file' of .*upload cannot be part"):
                await client.post("/inner/late", files={"file": b"x"})


async def _two() -> int:
    return 2


def test_a_method_that_changes_things_is_not_cached_by_accident() -> None:
    app, cache = installed(), Cache()

    @app.post("/")
    @cache(ttl=1)
    async def order() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"methods=\['POST'\]"):
        checked(app)


def test_a_cached_dependency_has_no_dependencies() -> None:
    app, cache = installed(), Cache()

    @cache(ttl=1)
    async def settings(db: Annotated[Session, Depends(session)]) -> int:
        return 1

    @app.get("/", dependencies=[Depends(settings)])
    async def index() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="settings is cached but has dependencies of its own"):
        checked(app)


def test_sockets_and_plain_routes_are_refused() -> None:
    cache = Cache()

    app = installed()

    @app.websocket("/ws")
    @cache(ttl=1)
    async def live(socket: WebSocket) -> None:
        return None

    with pytest.raises(ConfigurationError, match="WebSocket /ws keeps nothing"):
        checked(app)

    app = installed()
    app.add_route("/plain", cache(ttl=1)(_plain))  # type: ignore[arg-type]  # returns nothing
    with pytest.raises(ConfigurationError, match="no FastAPI path operation"):
        checked(app)


async def _plain(request: Request) -> None:
    return None


async def test_two_different_functions_of_one_name_do_not_share_answers() -> None:
    cache = Cache()

    def make(factor: int, name: str | None = None) -> Callable[[int], Any]:
        @cache(ttl=60, name=name)
        async def times(value: int) -> int:
            return value * factor

        return times

    double = make(2)
    assert await double(2) == 4
    triple = make(3)
    with pytest.raises(ConfigurationError, match=r"two different functions are called .*times"):
        await triple(2)
    assert [await make(2, "double")(2), await make(3, "triple")(2)] == [4, 6]


def test_a_declared_parameter_without_a_value_identity_is_refused_at_start_up() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.no_info_plain_validator_function(lambda value: cls())

    app, cache = installed(), Cache()

    async def search(odd: Any = Query()) -> int:
        return 1

    search.__annotations__["odd"] = Odd
    app.get("/search")(cache(ttl=1)(search))
    with pytest.raises(ConfigurationError, match=r"'odd' of .*search is a .*Odd"):
        checked(app)


def test_a_mounted_app_may_have_the_middleware_of_its_own() -> None:
    outer, inner, cache = FastAPI(), installed(), Cache()

    @inner.get("/")
    @cache(ttl=1)
    async def index() -> int:
        return 1

    outer.mount("/inner", inner)
    checked(outer)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cache(object()), "is no Store"),  # type: ignore[arg-type]  # the case
        (lambda: Cache(lease=0), "lease=0"),
        (lambda: Cache(max_bytes=0), "max_bytes=0"),
        (lambda: Cache()(ttl=0), "ttl=0"),
        (lambda: Cache()(ttl=float("nan")), "ttl=nan"),
        (lambda: Cache()(ttl=1, stale=-1), "stale=-1"),
        (lambda: Cache()(ttl=1, stale_if_error=-1), "stale_if_error=-1"),
        (lambda: Cache()(ttl=1, early=-1), "early=-1"),
        (lambda: Cache()(ttl=1, jitter=1), "jitter=1"),
        (lambda: Cache()(ttl=1, max_age=-1), "max_age=-1"),
        (lambda: Cache()(ttl=1, tags="items"), "tags='items' is one string"),
        (lambda: Cache()(ttl=1, methods="POST"), "methods='POST' is one string"),
        (lambda: Cache()(ttl=1, vary="accept"), "vary='accept' is one string"),
        (lambda: Cache()(ttl=1, tags=["item:{id}"])(_plain), "the tag 'item:{id}' names 'id'"),
        (lambda: Cache()(ttl=1, key=lambda id: id)(_plain), "key= of .*_plain takes 'id'"),
        (lambda: Cache()(ttl=1)(Session), "functions and methods, not for"),
    ],
)
def test_a_bad_argument_is_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()
