"""The catalogue as a stream: memory stays flat however long it is."""

from collections.abc import AsyncIterator

from fastapi import APIRouter

from fastapi_prodkit import CSVResponse, NDJSONResponse

from .shop import Item, Shop


def router(shop: Shop) -> APIRouter:
    routes = APIRouter(prefix="/export", tags=["export"])

    async def rows() -> AsyncIterator[Item]:
        for item in await shop.items():
            yield item

    @routes.get("/items.ndjson")
    async def as_ndjson() -> NDJSONResponse:
        return NDJSONResponse(rows())

    @routes.get("/items.csv")
    async def as_csv() -> CSVResponse:
        return CSVResponse(rows())

    return routes
