"""What the shop sells: cached and tagged, so that an order is seen at once."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.requests import HTTPConnection

from fastapi_prodkit import Cache, JWTAuth, Provided, RateLimiter, raises

from .accounts import plan_of
from .shop import Item, NoSuchItemError, Shop


def router(opened: Provided[Shop], cache: Cache, limiter: RateLimiter, auth: JWTAuth) -> APIRouter:
    routes = APIRouter(tags=["catalogue"])
    OpenShop = Annotated[Shop, Depends(opened)]  # noqa: N806 -- it is a type

    @routes.get("/items")
    @cache(ttl=60, tags=["items"])
    async def list_items(shop: OpenShop) -> list[Item]:
        return await shop.items()

    @routes.get("/items/{item_id}")
    @raises(NoSuchItemError)
    @cache(ttl=60, tags=["item:{item_id}"])
    async def read_item(item_id: int, shop: OpenShop) -> Item:
        return await shop.item(item_id)

    async def customer(connection: HTTPConnection) -> str:
        return (await auth.authenticate(connection)).subject

    @routes.get("/search", dependencies=[Depends(auth), Depends(limiter(plan_of, key=customer))])
    async def search(q: Annotated[str, Query(min_length=1, max_length=50)], shop: OpenShop) -> list[Item]:
        return await shop.search(q)

    return routes
