"""What a client gets for each kind of error."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from fastapi_prodkit import ProblemError, ProblemMiddleware

PROBLEM = "application/problem+json"
CANARY = "canary"


class Item(BaseModel):
    name: str
    price: float


def create_app(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, **options)

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", headers={"X-Spout": "left"})

    @app.get("/limit")
    async def limit() -> None:
        raise ProblemError(
            429, "slow down", type="quota-exceeded", title="Too fast", headers={"Retry-After": "7"}, left=0
        )

    @app.get("/nothing")
    async def nothing() -> None:
        raise HTTPException(204)

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError(CANARY)

    @app.post("/items")
    async def create(item: Item, page: int = Query(1, ge=1)) -> Item:
        return item

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(), raise_server_exceptions=False)


def test_an_http_exception_is_a_problem(client: TestClient) -> None:
    response = client.get("/teapot")
    assert response.status_code == 418
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["x-spout"] == "left"
    assert response.json() == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "short and stout",
    }


def test_a_problem_error_keeps_its_type_members_and_headers(client: TestClient) -> None:
    response = client.get("/limit")
    assert response.headers["retry-after"] == "7"
    assert response.json() == {
        "type": "/problems/quota-exceeded",
        "title": "Too fast",
        "status": 429,
        "detail": "slow down",
        "left": 0,
    }


def test_an_unknown_path_and_a_wrong_method_are_problems(client: TestClient) -> None:
    missing = client.get("/nowhere")
    assert missing.json() == {"type": "about:blank", "title": "Not Found", "status": 404}
    wrong = client.post("/boom")
    assert wrong.json() == {"type": "about:blank", "title": "Method Not Allowed", "status": 405}
    assert wrong.headers["allow"] == "GET"
    assert {missing.headers["content-type"], wrong.headers["content-type"]} == {PROBLEM}


def test_a_status_without_a_body_has_none(client: TestClient) -> None:
    response = client.get("/nothing")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers


def test_a_validation_error_points_and_never_repeats_the_input(client: TestClient) -> None:
    response = client.post("/items?page=0", json={"price": "canary"})
    assert response.status_code == 422
    assert "canary" not in response.text
    document = response.json()
    assert document["title"] == "Unprocessable Content"
    assert document["errors"] == [
        {
            "detail": "Input should be greater than or equal to 1",
            "parameter": "page",
            "code": "greater_than_equal",
        },
        {"detail": "Field required", "pointer": "/name", "code": "missing"},
        {
            "detail": "Input should be a valid number, unable to parse string as a number",
            "pointer": "/price",
            "code": "float_parsing",
        },
    ]


def test_an_unforeseen_error_tells_nothing_and_is_logged_once(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = client.get("/boom")
    assert response.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["fastapi_prodkit.problems"]
    assert errors[0].getMessage() == "RuntimeError in GET /boom"
    assert "in boom" in (errors[0].exc_text or "")
    assert CANARY not in caplog.text


def test_a_500_has_the_headers_of_a_200() -> None:
    app = create_app()
    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
    app.add_middleware(GZipMiddleware, minimum_size=1)
    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/boom", headers={"Origin": "https://shop.example"})
    assert response.status_code == 500
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert response.headers["content-encoding"] == "gzip"


def test_a_test_client_sees_what_nobody_foresaw() -> None:
    with pytest.raises(RuntimeError, match="canary"):
        TestClient(create_app()).get("/boom")
    assert TestClient(create_app()).get("/teapot").status_code == 418
