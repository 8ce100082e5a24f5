"""The shop itself: what it sells, who buys, and what can go wrong. Nothing of the web in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel, Field

from fastapi_prodkit import problem


class Item(BaseModel):
    id: int
    name: str
    price: float
    stock: int


class NewOrder(BaseModel):
    item_id: int
    quantity: int = Field(default=1, ge=1, le=100)


class Order(BaseModel):
    id: int
    customer: str
    item_id: int
    quantity: int
    status: str = "received"


@problem(status=404, type="no-such-item", detail="There is no item {item_id}.")
class NoSuchItemError(Exception):
    """The catalogue has no item with this number."""

    def __init__(self, item_id: int) -> None:
        self.item_id = item_id


@problem(status=409, type="out-of-stock", detail="Only {left} are left.", members=["left"])
class OutOfStockError(Exception):
    """Fewer are left than were ordered. Order fewer, or come back later."""

    def __init__(self, left: int) -> None:
        self.left = left


class Shop:
    """Everything in a dictionary; `delay` stands for the database that a real shop would wait for."""

    def __init__(self, *, delay: float = 0.05) -> None:
        self._delay = delay
        names = ["lamp", "chair", "table", "shelf", "sofa", "clock", "mirror", "carpet"]
        self._items = {
            number: Item(id=number, name=name, price=10.0 * number, stock=5)
            for number, name in enumerate(names, 1)
        }
        self._orders: list[Order] = []

    async def item(self, item_id: int) -> Item:
        await asyncio.sleep(self._delay)
        try:
            return self._items[item_id].model_copy()
        except KeyError:
            raise NoSuchItemError(item_id) from None

    async def items(self) -> list[Item]:
        await asyncio.sleep(self._delay)
        return list(self._items.values())

    async def search(self, words: str) -> list[Item]:
        return [item for item in await self.items() if words.lower() in item.name]

    async def order(self, customer: str, new: NewOrder) -> Order:
        await self.item(new.item_id)
        item = self._items[new.item_id]
        if item.stock < new.quantity:
            raise OutOfStockError(item.stock)
        item.stock -= new.quantity
        order = Order(id=len(self._orders) + 1, customer=customer, **new.model_dump())
        self._orders.append(order)
        return order

    async def confirm(self, order: Order) -> None:
        await asyncio.sleep(self._delay)
        order.status = "confirmed"

    async def orders(self) -> AsyncIterator[Order]:
        for order in list(self._orders):
            yield order
