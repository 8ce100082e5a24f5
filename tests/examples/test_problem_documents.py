from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from examples.problem_documents import OutOfStock, create_app
from fastapi_prodkit import raise_for_problem
from fastapi_prodkit.testing import documented


@pytest.fixture
def client() -> TestClient:
    app = create_app()
    return documented(TestClient(app), app)


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        ({"sku": "mug", "amount": 3}, {}, 409, "/problems/out-of-stock"),
        ({"sku": "jug", "amount": 1}, {}, 404, "/problems/no-such-article"),
        ({"sku": "mug", "amount": 1}, {"X-Age": "9"}, 403, "/problems/closed-shop"),
        ({"sku": "mug", "amount": 0}, {}, 422, "about:blank"),
    ],
)
def test_every_refusal_is_documented_and_explained(
    client: TestClient, body: Any, headers: Any, status: int, kind: str
) -> None:
    response = client.post("/orders", json=body, headers=headers)
    assert (response.status_code, response.json()["type"]) == (status, kind)
    if kind.startswith("/"):
        assert client.get(kind).json()["status"] == status


def test_a_caller_gets_the_exception_back(client: TestClient) -> None:
    assert client.post("/orders", json={"sku": "mug", "amount": 1}).status_code == 201
    with pytest.raises(OutOfStock) as caught:
        raise_for_problem(client.post("/orders", json={"sku": "mug", "amount": 2}), exceptions=[OutOfStock])
    assert caught.value.left == 1
