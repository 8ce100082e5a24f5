"""The catalogue as a stream: memory stays flat however long it is."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends

from fastapi_prodkit import CSVResponse, NDJSONResponse, Provided

from .shop import Item, Shop


def router(opened: Provided[Shop]) -> APIRouter:
    routes = APIRouter(prefix="/export", tags=["export"])

    OpenShop = Annotated[Shop, Depends(opened)]  # noqa: N806 -- it is a type

    async def rows(shop: Shop) -> AsyncIterator[Item]:
        for item in await shop.items():
            yield item

    @routes.get("/items.ndjson")
    async def as_ndjson(shop: OpenShop) -> NDJSONResponse:
        return NDJSONResponse(rows(shop))

    @routes.get("/items.csv")
    async def as_csv(shop: OpenShop) -> CSVResponse:
        return CSVResponse(rows(shop))

    return routes
