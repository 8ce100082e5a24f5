"""Orders: taken at once, confirmed in the background, seen live."""

# No `from __future__ import annotations` here: FastAPI could not see `auth`, a local, in a postponed one.
from typing import Annotated

from fastapi import APIRouter, Depends, WebSocket

from fastapi_prodkit import Cache, Claims, Hub, JWTAuth, Provided, Tasks, raises

from .shop import NewOrder, NoSuchItemError, Order, OutOfStockError, Shop


def router(opened: Provided[Shop], auth: JWTAuth, hub: Hub, tasks: Tasks, cache: Cache) -> APIRouter:
    routes = APIRouter(prefix="/orders", tags=["orders"])
    OpenShop = Annotated[Shop, Depends(opened)]  # noqa: N806 -- it is a type

    async def confirm(shop: Shop, order: Order) -> None:
        await shop.confirm(order)
        await hub.broadcast(f"customer:{order.customer}", order.model_dump())

    @routes.post("", status_code=202)
    @raises(NoSuchItemError, OutOfStockError)
    async def place_order(new: NewOrder, shop: OpenShop, claims: Annotated[Claims, Depends(auth)]) -> Order:
        order = await shop.order(claims.subject, new)
        await cache.invalidate_tags(f"item:{new.item_id}", "items")
        tasks.spawn(confirm, shop, order)
        return order

    @routes.websocket("/live")
    async def live(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None:
        async with hub.join(websocket, f"customer:{claims.subject}", expires=claims.expires) as socket:
            async for _ in socket:
                pass  # the feed goes one way; reading notices a client that leaves

    return routes
