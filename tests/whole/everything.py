"""One app with every component on, for real servers and for the tests of this folder."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel, SecretStr

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    Claims,
    EventStreamResponse,
    Health,
    Hub,
    JWTAuth,
    NDJSONResponse,
    ProblemMiddleware,
    Provided,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
    Resources,
    Tasks,
    backend_from_url,
)
from fastapi_prodkit.auth import bearer_header, query, subprotocol
from fastapi_prodkit.auth import cookie as cookie_source

SECRET = "u8Zq0kQm3v7yXc1Jb5Wn9Ts2Lf6Rd4Hg"

auth = JWTAuth(
    SECRET,
    algorithms=["HS256"],
    sources=[
        bearer_header,
        subprotocol,
        cookie_source("session", allowed_origins=["https://shop.example"]),
        query("token"),
    ],
)


class Login(BaseModel):
    name: str
    password: SecretStr


class Everything:
    """The objects of one app, under their names."""

    def __init__(self, url: str = "memory://", **options: Any) -> None:
        self.backend = backend_from_url(url, **options)
        self.cache = Cache(self.backend.store)
        self.limiter = RateLimiter(self.backend.counters)
        self.hub = Hub(self.backend.bus)
        self.tasks = Tasks()
        self.resources = Resources(self.backend, self.tasks, self.hub)
        self.settings: Provided[dict[str, str]] = self.resources.provide(_settings)
        self.computed = 0
        self.app = FastAPI(lifespan=self.resources)
        self.app.add_middleware(RequestLoggingMiddleware)
        self.app.add_middleware(ProblemMiddleware)
        self.app.add_middleware(RateLimitMiddleware)
        self.app.add_middleware(CacheMiddleware)
        self.app.include_router(Health())
        self.app.include_router(self._router(), prefix="/v1")

    def _router(self) -> APIRouter:
        router = APIRouter()
        cache, limiter, hub, tasks = self.cache, self.limiter, self.hub, self.tasks

        @router.get("/items/{item_id}")
        @cache(ttl=60, tags=["items"], stale_if_error=60)
        async def item(item_id: int) -> dict[str, int]:
            self.computed += 1
            return {"id": item_id, "computed": self.computed, "by": os.getpid()}

        @router.delete("/items/{item_id}")
        async def forget(item_id: int) -> bool:
            return await cache.invalidate(item, item_id=item_id)

        @router.get("/limited", dependencies=[Depends(limiter("50/hour"))])
        async def limited() -> int:
            return os.getpid()

        @router.get("/often", dependencies=[Depends(limiter("1000000/hour"))])
        async def often() -> int:
            return os.getpid()

        @router.get("/me")
        @cache(ttl=60)
        async def me(claims: Claims = Depends(auth)) -> str:
            return claims.subject

        @router.post("/login", dependencies=[Depends(limiter("100/hour"))])
        async def login(login: Login) -> str:
            return login.name

        @router.get("/boom")
        async def boom(text: str = "") -> None:
            raise ValueError(text)

        @router.get("/setting")
        async def setting(settings: dict[str, str] = Depends(self.settings)) -> str:
            return settings["colour"]

        @router.post("/work", status_code=202)
        async def work(seconds: float, jobs: Tasks = Depends(tasks)) -> None:
            jobs.spawn(_work, seconds)

        @router.get("/slow")
        async def slow(seconds: float) -> str:
            print("slow begun", flush=True)
            await asyncio.sleep(seconds)
            return "done"

        @router.get("/stream")
        async def stream() -> EventStreamResponse:
            return EventStreamResponse(_for_ever())

        @router.get("/lines")
        async def lines(count: int = 3) -> NDJSONResponse:
            return NDJSONResponse(_numbers(count))

        @router.websocket("/rooms/{room}")
        async def enter(websocket: WebSocket, room: str, claims: Annotated[Claims, Depends(auth)]) -> None:
            async with hub.join(websocket, room) as socket:
                await socket.send({"pid": os.getpid()})
                async for text in socket:
                    await hub.broadcast(room, {"said": text})

        return router


async def _settings() -> AsyncIterator[dict[str, str]]:
    yield {"colour": "green"}


async def _work(seconds: float) -> None:
    await asyncio.sleep(seconds)
    print("work done", flush=True)


async def _for_ever() -> AsyncIterator[int]:
    try:
        yield 0
        await asyncio.Event().wait()
    finally:
        print("stream closed", flush=True)


async def _numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def create_app() -> FastAPI:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="LOG %(name)s %(message)s")
    url = os.environ.get("REDIS_URL", "memory://")
    timeout = os.environ.get("REDIS_TIMEOUT")
    return Everything(url, **({"timeout": float(timeout)} if timeout else {})).app
