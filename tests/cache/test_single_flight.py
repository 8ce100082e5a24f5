from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse

from fastapi_prodkit import Cache, CacheMiddleware, RedisBackend

from ..servers import ROOT, RedisServer
from .conftest import Connect


async def test_two_hundred_concurrent_misses_are_one_computation(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/")
    @cache(ttl=60)
    async def index() -> int:
        calls.append(1)
        await asyncio.sleep(0.02)
        return len(calls)

    async with connect(app) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(200)))
    assert {answer.json() for answer in answers} == {1}
    assert sum("collapsed" in answer.headers["cache-status"] for answer in answers) == 199
    assert calls == [1]


async def test_when_the_leader_is_cancelled_one_follower_takes_over(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []
    began = asyncio.Event()

    @app.get("/")
    @cache(ttl=60)
    async def index() -> int:
        calls.append(1)
        began.set()
        await asyncio.sleep(0.05 if len(calls) > 1 else 60)
        return len(calls)

    async with connect(app) as client:
        leader = asyncio.create_task(client.get("/"))
        await began.wait()
        followers = [asyncio.create_task(client.get("/")) for _ in range(20)]
        await asyncio.sleep(0.02)
        leader.cancel()
        answers = await asyncio.gather(*followers)
        with contextlib.suppress(asyncio.CancelledError):
            await leader
    assert [answer.status_code for answer in answers] == [200] * 20
    assert {answer.json() for answer in answers} == {2}
    assert len(calls) == 2


async def test_a_follower_that_is_cancelled_takes_nobody_along(cache: Cache) -> None:
    calls = []

    @cache(ttl=60)
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.05)
        return len(calls)

    tasks = [asyncio.create_task(slow()) for _ in range(10)]
    await asyncio.sleep(0.02)
    for task in tasks[1:5]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in answers if not isinstance(each, BaseException)] == [1] * 6
    assert calls == [1]


@pytest.mark.parametrize("late", [False, True], ids=["in the endpoint", "in its serialisation"])
async def test_the_leaders_error_is_shared_and_not_kept(
    cache: Cache, connect: Connect, *, late: bool
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls: list[int] = []

    @app.get("/")
    @cache(ttl=60)
    async def index() -> int:
        calls.append(1)
        await asyncio.sleep(0.02)
        if len(calls) == 1:
            if late:
                return "no number"  # type: ignore[return-value]  # what FastAPI refuses to serialise
            raise HTTPException(503, "later")
        return len(calls)

    async with connect(app) as client:
        client._transport.raise_app_exceptions = False  # type: ignore[attr-defined]  # as a server would
        answers = await asyncio.gather(*(client.get("/") for _ in range(50)))
        after = await client.get("/")
    assert {answer.status_code for answer in answers} == {500 if late else 503}
    assert after.json() == 2
    assert len(calls) == 2


@pytest.mark.parametrize("where", ["validation", "rendering"])
async def test_the_leaders_error_is_shared_where_the_app_answers_it_after_the_endpoint(
    cache: Cache, connect: Connect, where: str
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls: list[int] = []

    class Strict(JSONResponse):
        def render(self, content: object) -> bytes:
            if content == 0:
                raise ZeroDivisionError
            return super().render(content)

    @app.exception_handler(ResponseValidationError)
    @app.exception_handler(ZeroDivisionError)
    async def answer(request: Request, error: Exception) -> Response:
        return Response("sorry", 500)

    @app.get("/", response_class=Strict)
    @cache(ttl=60)
    async def index() -> int:
        calls.append(1)
        await asyncio.sleep(0.02)
        if len(calls) == 1:
            return 0 if where == "rendering" else "no number"  # type: ignore[return-value]  # the case
        return len(calls)

    async with connect(app) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
        assert {answer.text for answer in answers} == {"sorry"}
        assert all("fwd=miss" in answer.headers["cache-status"] for answer in answers)
        assert (await client.get("/")).json() == 2
        assert "hit" in (await client.get("/")).headers["cache-status"]
    assert len(calls) == 2


async def test_the_error_of_closing_a_dependency_is_of_its_own_request_alone(
    cache: Cache, connect: Connect
) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    go = asyncio.Event()

    async def session(authorization: Annotated[str, Header()]) -> AsyncIterator[None]:
        yield
        raise HTTPException(409, f"of {authorization}")

    @app.get("/", dependencies=[Depends(session, scope="function")])
    @cache(ttl=60, shared=True)
    async def index() -> int:
        await go.wait()
        return 1

    async with connect(app) as client:
        names = ["ann", "bob", "eve"]
        waiting = [asyncio.create_task(client.get("/", headers={"authorization": name})) for name in names]
        await asyncio.sleep(0.02)
        go.set()
        answers = await asyncio.gather(*waiting)
    assert [answer.json()["detail"] for answer in answers] == [f"of {name}" for name in names]


async def test_responses_that_are_not_kept_are_not_shared_either(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls: list[int] = []

    @app.get("/")
    @cache(ttl=60)
    async def index(response: Response) -> int:
        calls.append(1)
        response.set_cookie("session", str(len(calls)))
        mine = len(calls)
        await asyncio.sleep(0.02)
        return mine

    async with connect(app) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(10)))
    assert sorted(answer.json() for answer in answers) == list(range(1, 11))


async def _process(url: str, mode: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cache.process", url, mode, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def test_four_processes_with_fifty_misses_each_are_one_computation(redis_url: str) -> None:
    processes = [await _process(redis_url, "stampede") for _ in range(4)]
    outputs = [(await process.communicate())[0] for process in processes]
    results = [json.loads(output) for output in outputs]
    assert sum(result["calls"] for result in results) == 1
    assert len({answer for result in results for answer in result["answers"]}) == 1
    assert [len(result["answers"]) for result in results] == [50] * 4


LEASE = 0.6


async def test_a_killed_leader_holds_up_followers_no_longer_than_its_lease(redis_server: RedisServer) -> None:
    process = await _process(redis_server.url, "hang")
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"computing"
    async with RedisBackend(redis_server.url, timeout=2.0) as backend:
        cache = Cache(backend.store, lease=LEASE, namespace="hang")

        async def answer() -> str:
            return "computed here"

        waiting = asyncio.create_task(cache.get_or_set("answer", answer, ttl=60))
        await asyncio.sleep(1.5 * LEASE)
        assert not waiting.done(), "the lease is renewed while its holder lives"
        process.kill()
        killed = time.monotonic()
        assert await waiting == "computed here"
        assert time.monotonic() - killed < LEASE + 0.3
    await process.wait()


async def test_processes_do_not_queue_for_what_cannot_be_kept(redis_url: str, connect: Connect) -> None:
    running = most = 0

    def build(backend: RedisBackend) -> FastAPI:
        app, cache = FastAPI(), Cache(backend.store)
        app.add_middleware(CacheMiddleware)

        @app.get("/")
        @cache(ttl=60)
        async def index(response: Response) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            response.headers["cache-control"] = "no-store"
            await asyncio.sleep(0.05)
            running -= 1
            return 1

        return app

    async with (
        RedisBackend(redis_url, timeout=2) as one,
        RedisBackend(redis_url, timeout=2) as other,
        connect(build(one)) as here,
        connect(build(other)) as there,
    ):
        await here.get("/")
        await asyncio.gather(*(client.get("/") for client in (here, there) for _ in range(10)))
    assert most == 20
