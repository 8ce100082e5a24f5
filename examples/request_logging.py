"""One record per request, the same id on everybody's records, and details only of what fails.

Run it: uvicorn --factory examples.request_logging:create_app
"""

import logging
import sys

from fastapi import FastAPI

from fastapi_prodkit import RequestLoggingMiddleware, bind
from fastapi_prodkit.request_logging import FlightRecorder, LineFormatter, QueueSink, Sink, StreamSink, timed

log = logging.getLogger("shop")


def configure_logging() -> None:
    """DEBUG records of a request are written only if it fails."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    log.handlers = [FlightRecorder(handler, level="INFO")]
    log.setLevel("DEBUG")
    log.propagate = False


def create_app(*, sink: Sink | None = None) -> FastAPI:
    configure_logging()
    app = FastAPI()
    app.add_middleware(
        RequestLoggingMiddleware,
        sink=sink or QueueSink(StreamSink()),
        trusted_proxies=["10.0.0.0/8"],
        headers=["user-agent"],
        server_timing=True,
    )
    stock = {1: 3}

    @app.post("/items/{item_id}/orders")
    async def order(item_id: int, customer: str) -> dict[str, int]:
        bind(user=customer)
        log.debug("looking for %d among %s", item_id, list(stock))
        with timed("stock"):
            left = stock[item_id] - 1  # of an item that is not there: a 500
        stock[item_id] = left
        log.info("ordered")
        return {"left": left}

    return app
