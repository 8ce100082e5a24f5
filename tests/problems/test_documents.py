"""What a client gets for each kind of error."""

from __future__ import annotations

import asyncio
import logging
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from fastapi_prodkit import ProblemError, ProblemMiddleware, Problems
from tests.stack import BODY_LIMITS

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


def test_what_is_always_said_is_said_again_and_what_differs_is_not() -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/{number}")
    async def index(number: int) -> None:
        raise HTTPException(404, "x" * 300 if number == 0 else f"no item {number}")

    with TestClient(app) as client:
        assert client.get("/0").json()["detail"] == "x" * 300
        for number in [*range(1, 300), *range(1, 300, 50)]:
            assert client.get(f"/{number}").json()["detail"] == f"no item {number}"
        assert "<h1>" in client.get("/1", headers={"Accept": "text/html"}).text


def test_a_registered_http_exception_is_what_it_was_registered_to_be() -> None:
    app = FastAPI()
    problems = Problems()
    app.add_middleware(ProblemMiddleware, problems=problems)
    client = TestClient(app)
    assert client.get("/nowhere").json()["type"] == "about:blank"
    problems.register(StarletteHTTPException, status=404, type="lost")
    assert client.get("/nowhere").json()["type"] == "/problems/lost"


# --- for a browser ---

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (BROWSER, "text/html; charset=utf-8"),
        ("*/*", PROBLEM),
        ("application/json", PROBLEM),
        ("text/html, application/problem+json;q=0.5", PROBLEM),
        ("", PROBLEM),
    ],
)
def test_html_is_for_those_who_ask_for_it(client: TestClient, accept: str, media_type: str) -> None:
    response = client.get("/teapot", headers={"Accept": accept})
    assert response.headers["content-type"] == media_type
    assert response.headers["vary"] == "Accept"
    assert response.status_code == 418


def test_the_page_tells_what_the_document_tells(client: TestClient) -> None:
    text = client.post("/items?page=0", json={}, headers={"Accept": BROWSER}).text
    assert "<h1>422 Unprocessable Content</h1>" in text
    assert "<code>page</code> Input should be greater than or equal to 1" in text
    assert "<code>/name</code> Field required" in text


def test_the_page_is_escaped_and_may_be_yours() -> None:
    app = create_app()

    @app.get("/script")
    async def script() -> None:
        raise ProblemError(400, "<script>", title="<b>")

    text = TestClient(app).get("/script", headers={"Accept": BROWSER}).text
    assert "&lt;script&gt;" in text
    assert "<b>" not in text
    own = TestClient(create_app(html=lambda document: f"<p>{document['status']}"))
    assert own.get("/teapot", headers={"Accept": BROWSER}).text == "<p>418"


def test_html_may_be_switched_off() -> None:
    response = TestClient(create_app(html=None)).get("/teapot", headers={"Accept": BROWSER})
    assert response.headers["content-type"] == PROBLEM
    assert "vary" not in response.headers


# --- whatever an exception carries ---


@pytest.mark.parametrize(
    ("detail", "members"),
    [
        ({"code": "stale", "status": 1}, {"code": "stale"}),
        ({1: "x", "detail": "text"}, {"1": "x", "detail": "text"}),
        (["a", "b"], {"errors": ["a", "b"]}),
        (7, {"errors": 7}),
        ({"when": object(), "lone": "\ud800"}, {"when": None, "lone": "\ud800"}),
        ({"price": Decimal("1.5"), "at": date(2026, 1, 2)}, {"price": "1.5", "at": "2026-01-02"}),
    ],
)
def test_any_detail_of_an_http_exception_makes_a_document(detail: Any, members: Any) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/")
    async def index() -> None:
        raise HTTPException(409, detail)

    response = TestClient(app).get("/")
    assert response.json() == {"type": "about:blank", "title": "Conflict", "status": 409, **members}


@pytest.mark.parametrize(
    ("status", "title"), [(499, "Client Error"), (599, "Server Error"), (413, "Content Too Large")]
)
def test_a_status_that_python_does_not_know_has_a_title(status: int, title: str) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/problem")
    async def by_problem() -> None:
        raise ProblemError(status)

    @app.get("/http")
    async def by_http() -> None:
        raise HTTPException(status, "why")

    client = TestClient(app)
    assert client.get("/problem").json() == {"type": "about:blank", "title": title, "status": status}
    assert client.get("/http").json()["title"] == title


def test_the_media_type_and_the_length_are_ours_to_say() -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/")
    async def index() -> None:
        raise HTTPException(400, headers={"Content-Type": "text/plain", "Content-Length": "1", "X-More": "1"})

    response = TestClient(app).get("/")
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["x-more"] == "1"
    assert response.json()["status"] == 400


@BODY_LIMITS
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_a_problem_inside_the_middlewares(declared: bool) -> None:
    app = FastAPI(max_body_size=10)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    @app.post("/")
    async def index(item: Item) -> None: ...

    body = b'{"name": "' + b"x" * 100 + b'"}'
    response = TestClient(app).post(
        "/",
        content=body if declared else iter([body[:9], body[9:]]),
        headers={"Content-Type": "application/json", "Origin": "https://shop.example"},
    )
    assert response.json() == {"type": "about:blank", "title": "Content Too Large", "status": 413}
    assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/alone", "/in-a-group"])
@pytest.mark.parametrize("middlewares", [0, 1, 2])
async def test_a_client_that_leaves_while_it_sends_is_no_error(
    middlewares: int, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    for _ in range(middlewares):
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))

    @app.post("/alone")
    async def alone(request: Request) -> None:
        await request.body()

    @app.post("/in-a-group")
    async def in_a_group(request: Request) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(request.body())

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "query_string": b"",
        "asgi": {"version": "3.0"},
    }
    await app(scope, gone, send)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


class _StrangeError(Exception):
    def __init__(self) -> None:
        self.itself: list[object] = []
        self.itself.append(self.itself)


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"Retry-After": 5}, "5"),
        ({"Retry-After": "\N{EURO SIGN}"}, None),
        ({"Retry-After": "5\r\nSet-Cookie: a=b"}, None),
        (None, None),
    ],
)
def test_a_field_that_no_header_can_hold_is_left_out(headers: Any, sent: str | None) -> None:
    app = FastAPI()
    problems = Problems()
    problems.register(_StrangeError, status=429, headers=lambda _: headers, members=["itself"])
    app.add_middleware(ProblemMiddleware, problems=problems)

    @app.get("/declared")
    async def declared() -> None:
        raise _StrangeError

    @app.get("/http")
    async def http() -> None:
        raise HTTPException(429, headers=headers)

    with TestClient(app) as client:
        for path in ("/declared", "/http"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers.get("retry-after")) == (429, sent)
            assert answer.json() == {"type": "about:blank", "title": "Too Many Requests", "status": 429}
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("errors", ["a text", [{"msg": "canary"}], [{"loc": None, "type": None}], [3]])
def test_a_validation_error_that_the_app_made_itself_is_a_422(errors: Any) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/")
    async def get() -> None:
        raise RequestValidationError(errors)

    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 422
    assert "canary" not in answer.text
