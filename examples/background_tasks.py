"""The answer goes out at once, the mail a little later, and an orderly stop loses none."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from fastapi_prodkit import Resources, Tasks


class Order(BaseModel):
    item: str
    email: str


class Outbox:
    """Stands for a mail server that takes its time."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, address: str, *, text: str) -> None:
        await asyncio.sleep(0.05)
        self.sent.append(f"{address}: {text}")


def create_app(outbox: Outbox | None = None) -> FastAPI:
    outbox = outbox or Outbox()
    tasks = Tasks(max_concurrency=20, max_pending=1000, drain_timeout=10)
    app = FastAPI(lifespan=Resources(tasks))

    @app.post("/orders", status_code=202)
    async def order(order: Order, tasks: Annotated[Tasks, Depends(tasks)]) -> str:
        tasks.spawn(outbox.send, order.email, text=f"your {order.item} is on its way")
        return "ordered"  # or 503 with Retry-After, if a thousand mails wait already

    @app.get("/sent")
    async def sent() -> list[str]:
        return outbox.sent

    return app
