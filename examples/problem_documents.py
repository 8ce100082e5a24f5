"""Errors that a program can act on: declared on the class, documented, explained, raised again by callers."""

from typing import Annotated

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel, Field

from fastapi_prodkit import ProblemMiddleware, Problems, problem, problem_pages, raises


@problem(
    status=409,
    type="out-of-stock",
    title="Out of stock",
    detail="Only {left} of {sku} are left.",
    members=["sku", "left"],
)
class OutOfStock(Exception):  # noqa: N818 -- named in the language of the shop
    """There are fewer of this article than you ordered. Order at most `left`, or wait."""

    def __init__(self, sku: str, left: int) -> None:
        self.sku, self.left = sku, left


@problem(status=403, type="closed-shop", title="The shop is closed to you")
class Closed(Exception):  # noqa: N818 -- as above
    """Customers below sixteen cannot order."""


class Order(BaseModel):
    sku: str
    amount: int = Field(ge=1)


@raises(Closed)
async def customer(x_age: Annotated[int, Header()] = 18) -> None:
    if x_age < 16:
        raise Closed


def create_app() -> FastAPI:
    stock = {"mug": 2}
    problems = Problems(base="/problems/")
    problems.register(KeyError, status=404, type="no-such-article", description="We never had this.")
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, problems=problems)
    app.include_router(problem_pages(problems))

    @app.post("/orders", status_code=201, dependencies=[Depends(customer)])
    @raises(OutOfStock, KeyError)
    async def order(order: Order) -> Order:
        if stock[order.sku] < order.amount:
            raise OutOfStock(order.sku, stock[order.sku])
        stock[order.sku] -= order.amount
        return order

    return app
