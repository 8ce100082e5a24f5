"""Whether an app was started, so that limits are weighed ahead of the dependencies, shows in no answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Request,
    Response,
    Security,
)
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.routing import Host

from fastapi_prodkit import MemoryBackend, ProblemMiddleware, RateLimiter, RateLimitMiddleware
from fastapi_prodkit.rate_limit import Decision, by_header
from fastapi_prodkit.testing import Clock

from .conftest import started

Events = list[object]
Make = Callable[[FastAPI, RateLimiter, Events], None]
_SHAPES: dict[str, tuple[Make, tuple[Any, ...]]] = {}

GETS = (("GET", "/1"),) * 4


def _shape(*requests: Any) -> Callable[[Make], Make]:
    """Note what makes an app, and the requests that it is sent: a method, a path and more of httpx's."""

    def note(make: Make) -> Make:
        _SHAPES[make.__name__] = (make, requests)
        return make

    return note


def _user(events: Events) -> Callable[[Request], str]:
    def user(request: Request) -> str:
        events.append("user")
        if "x-user" not in request.headers:
            raise HTTPException(401)
        return request.headers["x-user"]

    return user


_ADA: dict[str, Any] = {"headers": {"x-user": "ada"}}
_SEVERAL = (("GET", "/1"), ("GET", "/1", _ADA), ("GET", "/2", _ADA), ("GET", "/1"), ("GET", "/1", _ADA))


@_shape(*_SEVERAL)
def a_dependency_before(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    user, limit = Depends(_user(events)), Depends(limiter("2/minute"))
    app.get("/{number}", dependencies=[user, limit])(lambda number: number)


@_shape(*_SEVERAL)
def a_dependency_after(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    user, limit = Depends(_user(events)), Depends(limiter("3/minute"))
    app.get("/{number}", dependencies=[limit, user])(lambda number: number)


@_shape(*_SEVERAL)
def a_dependency_between(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    one, other = Depends(limiter("2/minute")), Depends(limiter("9/hour"))
    app.get("/{number}", dependencies=[one, Depends(_user(events)), other])(lambda number: number)


@_shape(*GETS)
def a_limit_below_a_dependency(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit = limiter("2/minute")

    async def user(decision: Decision = Depends(limit)) -> float:
        events.append("user")
        return decision.remaining

    @app.get("/{number}", dependencies=[Depends(limiter("3/minute"))])
    async def read(number: int, left: float = Depends(user)) -> float:
        return left


@_shape(*GETS)
def a_limit_taken_twice(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit = limiter("2/minute")

    @app.get("/{number}", dependencies=[Depends(limit), Depends(limit, use_cache=False), Security(limit)])
    async def read(number: int, decision: Decision = Depends(limit)) -> float:
        return decision.remaining


@_shape(*GETS)
def a_security_dependency(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    app.get("/{number}", dependencies=[Security(limiter("2/minute"), scopes=["a"])])(lambda number: number)


@_shape(*GETS, ("GET", "/0"))
def yielding_dependencies(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def around(request: Request) -> AsyncIterator[str]:
        events.append("enter")
        try:
            yield "resource"
        except HTTPException as error:
            events.append(error.status_code)
            raise
        finally:
            events.append("exit")

    def plain() -> Iterator[None]:
        events.append("plain")
        yield
        events.append("done")

    limit = limiter("3/minute")

    @app.get("/{number}", dependencies=[Depends(limit), Depends(around), Depends(plain)])
    async def read(number: int, resource: str = Depends(around)) -> str:
        if number == 0:
            raise HTTPException(404)
        return resource

    @app.get("/inside/{number}", dependencies=[Depends(around), Depends(limit)])
    async def inside(number: int) -> int:
        return number


@_shape(*[("GET", "/inside/1")] * 4)
def a_limit_inside_of_a_yielding_dependency(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    yielding_dependencies(app, limiter, events)


class _Item(BaseModel):
    name: str
    price: float = 1


_BODIES: tuple[dict[str, Any], ...] = (
    {"json": {"name": "a"}},
    {"content": b"{", "headers": {"content-type": "application/json"}},
    {"json": {"price": "x"}},
    {},
    {"json": {"name": "b"}},
)
_POSTS = tuple(("POST", "/1", each) for each in _BODIES)


@_shape(*_POSTS, ("GET", "/1"))
def a_body(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.post("/{number}", dependencies=[Depends(limiter("4/minute"))])
    async def write(number: int, item: _Item) -> _Item:
        return item


@_shape(*_POSTS)
def an_embedded_body_beside_one_of_a_dependency(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def name(name: Annotated[str, Body()]) -> str:
        return name

    @app.post("/{number}", dependencies=[Depends(limiter("4/minute")), Depends(name)])
    async def write(number: int, name: Annotated[str, Body(embed=True)]) -> str:
        return name


@_shape(("POST", "/1", {"data": {"name": "a"}}), ("POST", "/1", {"data": {}}), *_POSTS[:2])
def a_form(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.post("/{number}", dependencies=[Depends(limiter("3/minute"))])
    def write(number: int, name: Annotated[str, Form()]) -> str:
        return name


@_shape(*_POSTS)
def a_body_that_the_endpoint_reads(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.post("/{number}", dependencies=[Depends(limiter("4/minute"))])
    async def write(request: Request) -> int:
        return len(await request.body())


@_shape(
    ("GET", "/1"), ("GET", "/x"), ("GET", "/2?limit=y"), ("GET", "/3", _ADA), ("GET", "/x"), ("PUT", "/1")
)
def parameters(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.get("/{number}", dependencies=[Depends(limiter("4/minute"))])
    def read(number: int, x_user: Annotated[str, Header()] = "", limit: int = 3) -> list[object]:
        return [number, x_user, limit]


@_shape(*[("GET", path) for path in ("/a/b/1", "/c/b/2", "/a/b/3", "/a/b/4", "/c/b/5", "/c/b/x", "/a/b/")])
def included_routers(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    inner = APIRouter(prefix="/b", dependencies=[Depends(limiter("9/hour"))])
    inner.get("/{number}", dependencies=[Depends(limiter("2/minute"))])(lambda number: number)
    outer = APIRouter(dependencies=[Depends(limiter("20/day"))])
    outer.include_router(inner)
    app.include_router(outer, prefix="/a", dependencies=[Depends(limiter("30/day"))])
    app.include_router(outer, prefix="/c", dependencies=[Depends(_user(events))])


@_shape(*[("GET", path) for path in ("/a/1", "/b/1", "/c/1", "/1", "/a/2", "/2", "/b/2", "/c/x")] * 2)
def mounted_apps(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit = limiter("2/minute")
    inner, own = FastAPI(dependencies=[Depends(limit)]), FastAPI(dependencies=[Depends(limit)])
    for each in (inner, own):
        each.get("/{number}")(lambda number: number)
    own.add_middleware(RateLimitMiddleware)
    app.mount("/a", inner)
    app.mount("/b", own)
    app.mount("/c", inner)
    app.get("/{number}", dependencies=[Depends(limit)])(lambda number: number)


_HOSTS = [
    ("GET", path, {"headers": {"host": host}})
    for path in ("/1", "/2", "/x")
    for host in ("a.test", "b.test", "own.test", "else.test")
]


@_shape(*_HOSTS, *[("POST", path, {**more, "json": {"name": "a"}}) for _, path, more in _HOSTS])
def hosts(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit = Depends(limiter("2/minute"))
    for host in ("a.test", "b.test", "own.test"):
        inner = FastAPI(dependencies=[limit])
        inner.get("/{number}")(_number)
        inner.post("/{number}")(_item)
        if host == "own.test":
            inner.add_middleware(RateLimitMiddleware, legacy_headers=True)
        app.router.routes.append(Host(host, inner))
    app.get("/{number}", dependencies=[limit])(_number)


@_shape(*_HOSTS)
def hosts_of_a_router(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    router = APIRouter(dependencies=[Depends(limiter("2/minute"))])
    router.get("/{number}")(_number)
    for host in ("a.test", "b.test"):
        app.router.routes.append(Host(host, router))
    app.include_router(router)


async def _number(number: int) -> int:
    return number


async def _item(number: int, item: _Item) -> _Item:
    return item


@_shape(*GETS)
def a_sync_endpoint(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.get("/{number}", dependencies=[Depends(limiter("2/minute"))], status_code=201)
    def read(number: int) -> int:
        return number


@_shape(*GETS)
def a_response_model(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    options: dict[str, Any] = {"response_model": _Item, "response_model_exclude_unset": True}

    @app.get("/{number}", dependencies=[Depends(limiter("2/minute"))], **options)
    async def read(number: int) -> object:
        return {"name": number * "a", "secret": 1}


@_shape(*GETS)
def background_tasks(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def queue(tasks: BackgroundTasks) -> None:
        tasks.add_task(events.append, "of a dependency")

    @app.get("/{number}", dependencies=[Depends(limiter("2/minute")), Depends(queue)])
    async def read(number: int, tasks: BackgroundTasks) -> int:
        tasks.add_task(events.append, "of the endpoint")
        return number


@_shape(*GETS)
def headers_of_a_dependency(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def sets(response: Response) -> None:
        response.set_cookie("seen", "yes")
        response.headers["x-mark"] = "yes"
        response.status_code = 202

    @app.get("/{number}", dependencies=[Depends(limiter("2/minute")), Depends(sets)])
    async def read(number: int, response: Response) -> int:
        response.headers["x-number"] = str(number)
        return number


@_shape(("HEAD", "/1"), ("GET", "/1"), ("HEAD", "/1"), ("HEAD", "/1"), ("GET", "/1"), ("OPTIONS", "/1"))
def several_methods(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.api_route("/{number}", methods=["GET", "HEAD"], dependencies=[Depends(limiter("2/minute"))])
    async def read(number: int) -> int:
        return number


@_shape(*GETS)
def a_stream(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def resource() -> AsyncIterator[str]:
        yield "part"
        events.append("exit")

    @app.get("/{number}", dependencies=[Depends(limiter("2/minute"))])
    async def read(number: int, part: str = Depends(resource)) -> StreamingResponse:
        def parts() -> Iterator[str]:
            for each in range(3):
                events.append(each)
                yield part

        return StreamingResponse(parts())


@_shape(*GETS)
def a_generator(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.get("/{number}", dependencies=[Depends(limiter("2/minute"))])
    async def read(number: int) -> AsyncIterator[_Item]:
        for each in range(3):
            yield _Item(name=str(each))


@_shape(*GETS, ("GET", "/0"), ("GET", "/0"))
def failures(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    @app.exception_handler(KeyError)
    async def handle(request: Request, error: KeyError) -> Response:
        return JSONResponse({"key": str(error)}, 418)

    @app.get("/{number}", dependencies=[Depends(limiter("3/minute"))])
    async def read(number: int) -> int:
        raise KeyError(number) if number == 0 else ValueError(number)


@_shape(("GET", "/1"), ("GET", "/1", _ADA), ("GET", "/1", _ADA), _POSTS[0], _POSTS[2], ("POST", "/1"))
def a_key_that_is_missing(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit = Depends(limiter("1/minute", key=by_header("x-user")))
    app.get("/{number}", dependencies=[limit])(_number)
    app.post("/{number}", dependencies=[limit])(_item)


@_shape(*GETS)
def two_limiters(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    other = RateLimiter(MemoryBackend(clock=Clock()).counters)
    limits = [Depends(other("3/minute")), Depends(limiter("2/minute;3/hour"))]
    app.get("/{number}", dependencies=limits)(_number)


@_shape(*GETS)
def limits_that_ask(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    async def cost(connection: object) -> int:
        events.append("cost")
        return 2

    limits = [Depends(limiter("9/minute")), Depends(limiter("5/hour", cost=cost))]
    app.get("/{number}", dependencies=limits)(_number)


@_shape(*GETS, ("GET", "/2"))
def an_override(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    limit, kept = limiter("1/minute"), limiter("3/minute")
    app.get("/{number}", dependencies=[Depends(limit), Depends(kept)])(_number)
    app.dependency_overrides[limit] = lambda: events.append("instead")


@_shape(*GETS)
def a_limit_of_the_whole_app_besides(app: FastAPI, limiter: RateLimiter, events: Events) -> None:
    app.user_middleware.clear()
    app.add_middleware(RateLimitMiddleware, limits=[limiter("3/minute", name="all")], legacy_headers=True)
    app.get("/{number}", dependencies=[Depends(limiter("2/hour"))])(_number)


Answer = tuple[int, bytes, list[tuple[str, str]], Events]
_AT_START = {"failures", "a_limit_of_the_whole_app_besides"}  # what they add is read when an app starts


@pytest.mark.parametrize("problems", [False, True], ids=["plain", "problems"])
@pytest.mark.parametrize("shape", _SHAPES)
async def test_an_app_answers_alike_whether_it_was_started_or_not(shape: str, problems: bool) -> None:
    make, requests = _SHAPES[shape]
    app, events = _app(problems), Events()
    make(app, _limiter(), events)
    expected = await _answers(app, requests, events)
    assert any(status == 429 for status, *_ in expected)

    app = _app(problems)
    make(app, _limiter(), events)
    async with started(app):
        for request, answer, other in zip(
            requests, await _answers(app, requests, events), expected, strict=True
        ):
            assert answer == other, request


@pytest.mark.parametrize("shape", sorted(_SHAPES.keys() - _AT_START))
async def test_routes_that_an_app_gains_after_its_start_are_limited_alike(shape: str) -> None:
    make, requests = _SHAPES[shape]
    answers = []
    for late in (False, True):
        app, events = _app(problems=False), Events()
        early = [Depends(_user(events)), Depends(_limiter()("1/minute"))]
        app.get("/early/{number}", dependencies=early)(_number)
        if not late:
            make(app, _limiter(), events)
        async with started(app):
            await _answers(app, [("GET", "/early/1", _ADA)] * 2, events)
            if late:
                make(app, _limiter(), events)
            answers.append(await _answers(app, requests, events))
    assert answers[0] == answers[1]


def _limiter() -> RateLimiter:
    return RateLimiter(MemoryBackend(clock=Clock()).counters)


def _app(problems: bool) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    if problems:
        app.add_middleware(ProblemMiddleware)
    return app


async def _answers(app: FastAPI, requests: Sequence[Any], events: Events) -> list[Answer]:
    """What a client is sent for each request, and what happened meanwhile."""
    transport = httpx2.ASGITransport(app, client=("127.0.0.1", 1234), raise_app_exceptions=False)
    found = []
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for method, path, *more in requests:
            events.clear()
            answer = await client.request(method, path, **(more[0] if more else {}))
            headers = sorted(answer.headers.multi_items())
            found.append((answer.status_code, answer.content, headers, list(events)))
    return found
