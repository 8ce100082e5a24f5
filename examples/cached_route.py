"""A catalogue that is computed once, served from the cache, and forgotten as soon as it changes."""

import asyncio
import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from fastapi_prodkit import Cache, CacheMiddleware, Resources
from fastapi_prodkit.backends import backend_from_url


class Item(BaseModel):
    id: int
    name: str
    price: float


def create_app(url: str | None = None) -> FastAPI:
    backend = backend_from_url(url or os.environ.get("REDIS_URL", "memory://"))
    cache = Cache(backend.store)
    shelf = {number: Item(id=number, name=f"Tea {number}", price=3.5) for number in range(1, 101)}

    app = FastAPI(lifespan=Resources(backend, cache))
    app.add_middleware(CacheMiddleware)

    @app.get("/items")
    @cache(ttl=60, stale=300, tags=["items"])
    async def list_items(max_price: float = 100) -> list[Item]:
        await asyncio.sleep(0.2)  # a slow query
        return [item for item in shelf.values() if item.price <= max_price]

    @app.get("/items/{item_id}")
    @cache(ttl=60, stale_if_error=3600)
    async def read_item(item_id: int) -> Item:
        if item_id not in shelf:
            raise HTTPException(404, "There is no such item.")
        return shelf[item_id]

    @app.put("/items/{item_id}")
    async def change_item(item_id: int, item: Item) -> Item:
        shelf[item_id] = item
        await cache.invalidate(read_item, item_id)
        await cache.invalidate(tag="items")
        return item

    @cache(ttl=600)
    async def exchange_rate(currency: str) -> float:
        await asyncio.sleep(0.2)  # somebody else's API
        return {"EUR": 0.9, "GBP": 0.8}[currency]

    @app.get("/rates/{currency}")
    async def rate(currency: str) -> float:
        return await exchange_rate(currency)

    return app
