"""At most so many at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Message

from fastapi_prodkit import ConfigurationError, MemoryBackend, RateLimiter, RateLimitMiddleware, RedisBackend
from fastapi_prodkit.typing import Backend

from .conftest import Open


class Door:
    """Endpoints wait behind it."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = asyncio.Event()


def _app(backend: Backend, door: Door, *, lease: float = 15.0) -> FastAPI:
    limiter = RateLimiter(backend.counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)

    @app.get("/", dependencies=[Depends(limiter.concurrent(3, lease=lease))])
    async def wait() -> str:
        door.inside += 1
        await door.open.wait()
        return "done"

    return app


async def _until(door: Door, inside: int) -> None:
    async with asyncio.timeout(5):
        while door.inside < inside:
            await asyncio.sleep(0.005)


async def test_so_many_run_at_a_time_and_the_next_when_one_is_done(backend: Backend, client_of: Open) -> None:
    door = Door()
    client = await client_of(_app(backend, door))
    running = [asyncio.create_task(client.get("/")) for _ in range(3)]
    await _until(door, 3)
    refused = await client.get("/")
    assert refused.status_code == 429
    assert refused.headers["ratelimit-policy"] == '"concurrent";q=3;qu="concurrent-requests"'
    door.open.set()
    assert {(await each).status_code for each in running} == {200}
    answers = await asyncio.gather(*(client.get("/") for _ in range(3)))
    assert {each.status_code for each in answers} == {200}


async def test_who_gives_up_frees_a_place(backend: Backend, client_of: Open) -> None:
    door = Door()
    client = await client_of(_app(backend, door))
    running = [asyncio.create_task(client.get("/")) for _ in range(3)]
    await _until(door, 3)
    running[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await running[0]
    running.append(asyncio.create_task(client.get("/")))
    await _until(door, 4)
    door.open.set()
    assert {(await each).status_code for each in running[1:]} == {200}


async def test_a_socket_and_a_stream_keep_their_places_until_they_end(backend: Backend) -> None:
    limiter = RateLimiter(backend.counters)
    app, done, running = FastAPI(), asyncio.Event(), asyncio.Semaphore(0)
    app.add_middleware(RateLimitMiddleware)
    rule = limiter.concurrent(2, name="both")

    @app.get("/stream", dependencies=[Depends(rule)])
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            running.release()
            yield b"part"
            await done.wait()

        return StreamingResponse(parts())

    @app.websocket("/socket", dependencies=[Depends(rule)])
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        running.release()
        await websocket.receive()

    connect: list[Message] = [{"type": "websocket.connect"}]

    async def hear() -> Message:
        if connect:
            return connect.pop()
        await done.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def wait() -> Message:
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {"query_string": b"", "root_path": "", "headers": [], "client": ("1.2.3.4", 1)}
    tasks = [
        asyncio.create_task(app({**scope, "type": "http", "method": "GET", "path": "/stream"}, wait, send)),
        asyncio.create_task(app({**scope, "type": "websocket", "path": "/socket"}, hear, send)),
    ]
    for _ in tasks:
        await running.acquire()
    assert (await rule.peek("1.2.3.4")).remaining == 0
    done.set()
    await asyncio.gather(*tasks)
    assert (await rule.peek("1.2.3.4")).remaining == 2


async def test_a_long_request_keeps_its_place_and_a_dead_worker_frees_its(
    redis_url: str, client_of: Open
) -> None:
    door = Door()
    async with RedisBackend(redis_url, timeout=5) as living, RedisBackend(redis_url, timeout=5) as dying:
        app = _app(dying, door, lease=0.6)
        client = await client_of(app)
        running = [asyncio.create_task(client.get("/")) for _ in range(3)]
        await _until(door, 3)
        other = await client_of(_app(living, Door(), lease=0.6))
        await asyncio.sleep(1.0)
        assert (await other.get("/")).status_code == 429
        await dying.__aexit__()  # nothing is renewed or given back any more
        door.open.set()
        await asyncio.gather(*running, return_exceptions=True)
        async with asyncio.timeout(5):
            while True:
                waiting = asyncio.create_task(other.get("/"))
                done, _ = await asyncio.wait([waiting], timeout=0.1)
                if not done:
                    waiting.cancel()
                    break


def test_a_concurrency_limit_that_cannot_hold_is_refused() -> None:
    limiter = RateLimiter(MemoryBackend().counters)
    with pytest.raises(ConfigurationError):
        limiter.concurrent(0)
    with pytest.raises(ConfigurationError):
        limiter.concurrent(1, lease=0)
