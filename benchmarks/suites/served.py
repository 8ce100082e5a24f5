"""A small endpoint with everything that production wants, under uvicorn."""

from __future__ import annotations

import json

from fastapi import Depends, FastAPI

from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
    Resources,
)
from fastapi_prodkit.request_logging import StreamSink

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig
from ..work import small
from .rate_limit import bare, prebuilt


async def check(build: Build, rig: Rig) -> None:
    """An id, one line of JSON that names the status, and a problem document for what is not there."""
    async with opened(build(rig)) as client:
        rig.tape.record()
        answer = await client.ask()
        lines = rig.tape.stop()
        assert answer.header("x-request-id"), "no request id"
        assert "200" in json.dumps([json.loads(line) for line in lines]), "no line about it"
        missing = await client.ask(path="/missing", raw_path=b"/missing")
        assert missing.header("content-type") == "application/problem+json", "no problem document"


def ours(rig: Rig) -> FastAPI:
    backend = MemoryBackend()
    cache, limiter = Cache(backend.store), RateLimiter(backend.counters)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(RequestLoggingMiddleware, sink=StreamSink(rig.tape))
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(CacheMiddleware)

    @app.get("/", dependencies=[Depends(limiter(f"{rig.limit}/second"))])
    async def endpoint() -> dict[str, str]:
        return small()

    @app.get("/cached")
    @cache(ttl=60)
    async def cached() -> dict[str, str]:
        return small()

    return app


def prodkit(rig: Rig) -> FastAPI:
    from prodkit import Production

    app = bare(rig)
    Production(app, rate_limit={"default": f"{rig.limit}/second"}, compression=False)
    return app


SUITES = [
    Suite(
        name="served",
        title="A whole app under uvicorn",
        text=(
            "Real processes over HTTP, eight connections that stay open: a small endpoint with access log, "
            "request id, problem documents and a limit per client. The client and the server's parsing are "
            "part of what is timed."
        ),
        contenders=[
            Contender(BARE, bare, note="no access log", yardstick=True),
            Contender(LIMIT, prebuilt, note="no access log", yardstick=True),
            Contender(
                "bare FastAPI, uvicorn's access log",
                bare,
                note="a line of text",
                yardstick=True,
                access_log=True,
            ),
            Contender("fastapi-prodkit", ours, "fastapi-prodkit", "logging, problems, limits, cache"),
            Contender("prodkit", prodkit, "prodkit", "logging, errors, limits, security headers"),
        ],
        check=check,
        served=True,
        at_once=8,
    ),
]
