"""An app whose work takes longer than its answers."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from fastapi_prodkit import Resources, Tasks

tasks = Tasks(drain_timeout=1)
app = FastAPI(lifespan=Resources(tasks))


async def mail(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
        print("mail sent", flush=True)
    finally:
        print("mail cleaned up", flush=True)


@app.post("/mail/{seconds}")
async def send(seconds: float) -> None:
    tasks.spawn(mail, seconds)
