"""A million rows in flat memory, as CSV or NDJSON, and a live feed of events that ends when the app stops."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from fastapi import FastAPI, HTTPException
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel

from fastapi_prodkit import CSVResponse, EventStreamResponse, NDJSONResponse, Resources


class Order(BaseModel):
    id: int
    item: str
    placed_at: datetime


async def orders(count: int) -> AsyncIterator[Order]:
    """Stands for a server-side cursor of an async driver."""
    if count > 1_000_000:
        raise HTTPException(422, "At most a million orders at once.")  # still a real 422
    for number in range(count):
        yield Order(id=number, item="tea", placed_at=datetime.now(UTC))


def rows(count: int) -> Iterator[list[object]]:
    """Stands for a driver that blocks: it runs in threads, one hop for each 16 KiB."""
    for number in range(count):
        yield [number, "tea"]


async def clock(interval: float) -> AsyncIterator[ServerSentEvent]:
    while True:
        yield ServerSentEvent(event="tick", data=datetime.now(UTC))
        await asyncio.sleep(interval)


def create_app() -> FastAPI:
    app = FastAPI(lifespan=Resources())

    @app.get("/orders.ndjson")
    async def as_lines(count: int = 1000) -> NDJSONResponse:
        return NDJSONResponse(orders(count))

    @app.get("/orders.csv")
    async def as_table(count: int = 1000) -> CSVResponse:
        return CSVResponse(rows(count), header=["id", "item"], filename="orders.csv", escape_formulas=True)

    @app.get("/clock")
    async def live(interval: float = 1.0) -> EventStreamResponse:
        return EventStreamResponse(clock(interval))

    return app
