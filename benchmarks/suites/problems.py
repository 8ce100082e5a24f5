"""A 404, a 422 and a 500 as problem documents, over what FastAPI answers by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import ProblemMiddleware

from ..client import opened
from ..harness import BARE, LIMIT, Build, Check, Contender, Suite
from ..rig import Rig

ITEM = {"method": "POST", "path": "/items", "headers": {"content-type": "application/json"}}
REQUESTS: dict[int, dict[str, Any]] = {
    404: {"path": "/missing"},
    422: {**ITEM, "body": b'{"price": "canary", "tags": ["new", 2]}'},
    500: {"path": "/broken"},
}
CANARY = "canary"


class Item(BaseModel):
    name: str
    price: float
    tags: list[str]


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "There is no such item")

    @app.post("/items")
    async def create(item: Item) -> Item:
        return item

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError(CANARY)

    return app


def _served(app: ASGIApp, rig: Rig) -> ASGIApp:
    """What every server does with an exception that an app lets out: it logs it with its traceback."""
    for name in ("benchmarks.server", "fastapi_prodkit.problems"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.StreamHandler(rig.tape)]
        logger.propagate = False
    server = logging.getLogger("benchmarks.server")

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            server.error("Exception in ASGI application\n", exc_info=error)

    return serve


def check(status: int) -> Check:
    async def check(build: Build, rig: Rig) -> None:
        """A problem document of the status, that tells nothing of the input or the exception."""
        async with opened(build(rig), **REQUESTS[status]) as client:
            await client.ask()
            rig.tape.record()
            try:
                answer = await client.ask()
            finally:
                lines = rig.tape.stop()
        assert answer.status == status, f"answers {answer.status}"
        assert "problem+json" in (answer.header("content-type") or ""), "is no problem document"
        document = answer.json()
        assert (document["status"], "title" in document) == (status, True), f"answers {document}"
        assert b"canary" not in answer.body, "repeats the input or the exception to the client"
        tracebacks = sum("Traceback (most recent call last)" in line for line in lines)
        assert tracebacks == (status == 500), f"logs {tracebacks} tracebacks"

    return check


def bare(rig: Rig) -> ASGIApp:
    return _served(_app(), rig)


def prebuilt(status: int) -> Build:
    def build(rig: Rig) -> ASGIApp:
        app = FastAPI()
        request = REQUESTS[status]

        @app.api_route(request["path"], methods=[request.get("method", "GET")])
        async def endpoint() -> Response:
            body = b'{"type":"about:blank","title":"Prebuilt","status":404}'
            return Response(body, status, media_type="application/problem+json")

        return app

    return build


def ours(rig: Rig) -> ASGIApp:
    app = _app()
    app.add_middleware(ProblemMiddleware)
    return _served(app, rig)


def _installing(install: Callable[[FastAPI], object]) -> Build:
    def build(rig: Rig) -> ASGIApp:
        app = _app()
        install(app)
        return _served(app, rig)

    return build


def problem(app: FastAPI) -> None:
    from fastapi_problem.handler import add_exception_handler, new_exception_handler

    add_exception_handler(app, new_exception_handler())


def problem_details(app: FastAPI) -> None:
    import fastapi_problem_details

    fastapi_problem_details.init_app(app)


def alcazaba(app: FastAPI) -> None:
    from fastapi_alcazaba.problems import FastAPIProblemDetails

    FastAPIProblemDetails().install(app)


_NOTES = {
    404: ("404", "An `HTTPException` raised in an endpoint."),
    422: ("422", "A JSON body with a missing field, a wrong type and a wrong type in a list."),
    500: (
        "500",
        "An exception that nobody foresaw. What leaves the app is logged with its traceback, as a server "
        "does; all of it goes to the null device.",
    ),
}

SUITES = [
    Suite(
        name=f"problem-{status}",
        title=f"Errors: {title}",
        text=f"{text} Bare FastAPI answers it in its own format.",
        contenders=[
            Contender(BARE, bare, note="its own format", yardstick=True),
            Contender(LIMIT, prebuilt(status), note="nothing raised", yardstick=True),
            Contender("ProblemMiddleware", ours),
            Contender("fastapi-problem", _installing(problem), "fastapi-problem"),
            Contender("fastapi-problem-details", _installing(problem_details), "fastapi-problem-details"),
            Contender("fastapi-alcazaba", _installing(alcazaba), "fastapi-alcazaba"),
        ],
        check=check(status),
        request=REQUESTS[status],
        status=status,
    )
    for status, (title, text) in _NOTES.items()
]
