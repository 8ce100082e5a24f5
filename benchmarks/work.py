"""The work that the contenders share: a catalogue of 100 models, and a small endpoint."""

from __future__ import annotations

from pydantic import BaseModel

__all__ = ["BODY", "Item", "catalogue", "computed", "small"]


class Item(BaseModel):
    id: int
    name: str
    description: str
    price: float
    tags: list[str]
    in_stock: bool


_ITEMS = [
    Item(
        id=number,
        name=f"Item number {number}",
        description="A thing with a use",
        price=number + 0.5,
        tags=["new", "blue"],
        in_stock=number % 3 > 0,
    )
    for number in range(100)
]

BODY = ("[" + ",".join(each.model_dump_json() for each in _ITEMS) + "]").encode()

_computations = 0


def catalogue() -> list[Item]:
    global _computations
    _computations += 1
    return _ITEMS


def computed() -> int:
    """How often the catalogue was asked for so far."""
    return _computations


def small() -> dict[str, str]:
    return {"status": "fine"}
