"""A thousand small rows as a stream: NDJSON, and server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from starlette.responses import Response, StreamingResponse

from fastapi_prodkit import EventStreamResponse, NDJSONResponse

from ..client import opened
from ..harness import BARE, LIMIT, Build, Contender, Suite
from ..rig import Rig

ROWS = [{"id": number, "name": f"Item number {number}", "price": number + 0.5} for number in range(1000)]


async def rows() -> AsyncIterator[dict[str, Any]]:
    for row in ROWS:
        yield row


def plain_rows() -> Iterator[dict[str, Any]]:
    yield from ROWS


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _event(row: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(row, separators=(",", ":")).encode() + b"\n\n"


async def check_lines(build: Build, rig: Rig) -> None:
    async with opened(build(rig)) as client:
        body = (await client.ask()).body
    assert [json.loads(line) for line in body.splitlines()] == ROWS, "other rows"


async def check_events(build: Build, rig: Rig) -> None:
    async with opened(build(rig)) as client:
        body = (await client.ask()).body.replace(b"\r\n", b"\n")
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert [json.loads(event) for event in events] == ROWS, "other events"


def _app(make: Any) -> Build:
    def build(rig: Rig) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def endpoint() -> Response:
            response: Response = make()
            return response

        return app

    return build


def bare(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> list[dict[str, Any]]:
        return ROWS

    return app


def native_lines(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> AsyncIterator[dict[str, Any]]:
        for row in ROWS:
            yield row

    return app


def native_plain_lines(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def endpoint() -> Iterator[dict[str, Any]]:
        yield from ROWS

    return app


def native_events(rig: Rig) -> FastAPI:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterator[dict[str, Any]]:
        for row in ROWS:
            yield row

    return app


def sse_starlette(rig: Rig) -> FastAPI:
    from sse_starlette import EventSourceResponse

    async def events() -> AsyncIterator[str]:
        for row in ROWS:
            yield json.dumps(row, separators=(",", ":"))

    return _app(lambda: EventSourceResponse(events()))(rig)  # type: ignore[return-value]  # it is one


async def _lines() -> AsyncIterator[bytes]:
    async for row in rows():
        yield _line(row)


async def _events() -> AsyncIterator[bytes]:
    async for row in rows():
        yield _event(row)


_LINES, _EVENTS = b"".join(map(_line, ROWS)), b"".join(map(_event, ROWS))
_TEXT = "A thousand rows ({size:.0f} kB). In process: on a socket, each write costs a system call more."

SUITES = [
    Suite(
        name="ndjson",
        title="A stream of JSON lines",
        text=_TEXT.format(size=len(_LINES) / 1000),
        check=check_lines,
        unit="stream",
        contenders=[
            Contender(LIMIT, _app(lambda: Response(_LINES)), note="all of it in memory"),
            Contender(BARE, bare, note="one JSON list, all of it in memory", yardstick=True),
            Contender("fastapi-prodkit", _app(lambda: NDJSONResponse(rows())), note="an async generator"),
            Contender(
                "fastapi-prodkit, plain",
                _app(lambda: NDJSONResponse(plain_rows())),
                note="a plain generator, in threads",
            ),
            Contender("StreamingResponse", _app(lambda: StreamingResponse(_lines())), note="json.dumps"),
            Contender(
                "StreamingResponse, plain",
                _app(lambda: StreamingResponse(map(_line, plain_rows()))),
                note="a plain generator: a hop to a thread for each row",
            ),
            Contender("FastAPI yield", native_lines, note="its own JSON lines"),
            Contender("FastAPI yield, plain", native_plain_lines, note="its own, from a `def` endpoint"),
        ],
    ),
    Suite(
        name="sse",
        title="A stream of server-sent events",
        text=_TEXT.format(size=len(_EVENTS) / 1000),
        check=check_events,
        unit="stream",
        contenders=[
            Contender(LIMIT, _app(lambda: Response(_EVENTS)), note="all of it in memory"),
            Contender(BARE, bare, note="one JSON list, all of it in memory", yardstick=True),
            Contender("fastapi-prodkit", _app(lambda: EventStreamResponse(rows()))),
            Contender("StreamingResponse", _app(lambda: StreamingResponse(_events())), note="json.dumps"),
            Contender("sse-starlette", sse_starlette, package="sse-starlette"),
            Contender("FastAPI EventSourceResponse", native_events),
        ],
    ),
]
