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


@problem(status=404, type="no-such-item", title="No such item")
class NoSuchItem(Exception):
    """The catalogue has no item with this number."""


@problem(status=409, type="out-of-stock", title="Out of stock")
class OutOfStock(Exception):
    """Fewer are left than were ordered."""


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
            raise NoSuchItem(f"There is no item {item_id}.") from None

    async def items(self) -> list[Item]:
        await asyncio.sleep(self._delay)
        return list(self._items.values())

    async def search(self, words: str) -> list[Item]:
        return [item for item in await self.items() if words.lower() in item.name]

    async def order(self, customer: str, new: NewOrder) -> Order:
        item = await self.item(new.item_id)
        if self._items[item.id].stock < new.quantity:
            raise OutOfStock(f"Only {self._items[item.id].stock} of {item.name} are left.")
        self._items[item.id].stock -= new.quantity
        order = Order(id=len(self._orders) + 1, customer=customer, **new.model_dump())
        self._orders.append(order)
        return order

    async def confirm(self, order: Order) -> None:
        await asyncio.sleep(self._delay)
        order.status = "confirmed"

    async def orders(self) -> AsyncIterator[Order]:
        for order in list(self._orders):
            yield order
