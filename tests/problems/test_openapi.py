"""The contract cannot lie: the document lists what is sent, pages explain it, callers get it back."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer
from fastapi.testclient import TestClient
from pydantic import BaseModel

from fastapi_prodkit import (
    ConfigurationError,
    JWTAuth,
    MemoryBackend,
    Problem,
    ProblemError,
    ProblemMiddleware,
    Problems,
    RateLimiter,
    RateLimitMiddleware,
    RemoteProblemError,
    Tasks,
    document_problems,
    problem,
    problem_pages,
    raise_for_problem,
    raises,
)
from fastapi_prodkit.testing import assert_documented, documented
from tests.stack import BODY_LIMITS

MEDIA_TYPE = "application/problem+json"
PROBLEM = {"$ref": "#/components/schemas/Problem"}


@problem(
    status=409, type="sold-out", title="Sold out", detail="{sku} is gone", members=["sku"], close_code=4409
)
class SoldOutError(Exception):
    """Nothing is left of this article.

    Try <again> when it is back.
    """

    def __init__(self, sku: str, shelf: int) -> None:
        super().__init__(f"shelf {shelf}")
        self.sku = sku
        self.shelf = shelf


class Item(BaseModel):
    name: str


@raises(403)
async def guard() -> None: ...


def create_app(**options: Any) -> FastAPI:
    problems = Problems()
    problems.register(LookupError, status=404, type="no-such-item", description="Look elsewhere.")
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, problems=problems, **options)
    app.include_router(problem_pages(problems))

    @app.post("/items/{item_id}", dependencies=[Depends(guard)], responses={404: {"description": "Nowhere"}})
    @raises(SoldOutError, LookupError)
    async def buy(item_id: int, item: Item) -> Item:
        if item_id == 1:
            raise SoldOutError("mug", 7)
        if item_id == 2:
            raise KeyError
        if item_id == 3:
            raise HTTPException(418)
        if item_id == 4:
            raise ProblemError(409, type="another")
        return item

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    @app.get("/token", dependencies=[Depends(HTTPBearer())])
    async def token() -> None: ...

    return app


@pytest.fixture
def app() -> FastAPI:
    return create_app()


@pytest.fixture
def schema(app: FastAPI) -> Any:
    return TestClient(app).get("/openapi.json").json()


def test_a_route_lists_the_problems_it_can_emit(schema: Any) -> None:
    responses = schema["paths"]["/items/{item_id}"]["post"]["responses"]
    assert list(responses) == ["200", "400", "403", "404", "409", "422", "500"]
    assert all(MEDIA_TYPE in responses[status]["content"] for status in responses if status != "200")
    assert responses["409"]["description"] == "Sold out"
    sold_out = responses["409"]["content"][MEDIA_TYPE]["schema"]
    assert sold_out["properties"]["type"] == {"const": "/problems/sold-out"}
    assert sold_out["required"] == ["sku"]


def test_what_the_user_wrote_of_a_response_stays(schema: Any) -> None:
    missing = schema["paths"]["/items/{item_id}"]["post"]["responses"]["404"]
    assert missing["description"] == "Nowhere"
    assert missing["content"][MEDIA_TYPE]["schema"]["properties"]["type"] == {
        "const": "/problems/no-such-item"
    }


def test_the_422_is_the_one_that_is_sent(schema: Any) -> None:
    content = schema["paths"]["/items/{item_id}"]["post"]["responses"]["422"]["content"]
    assert content == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ValidationProblem"}}}
    assert "HTTPValidationError" not in str(schema)
    assert "ValidationError" not in schema["components"]["schemas"]


def test_a_route_without_parameters_lists_no_422(schema: Any) -> None:
    responses = schema["paths"]["/plain"]["get"]["responses"]
    assert list(responses) == ["200", "500"]
    assert responses["500"]["content"][MEDIA_TYPE]["schema"] == PROBLEM


def test_a_security_scheme_of_fastapi_lists_its_401(schema: Any) -> None:
    assert "401" in schema["paths"]["/token"]["get"]["responses"]


async def _read(request: Request) -> bytes:
    return await request.body()


@BODY_LIMITS
@pytest.mark.parametrize("where", ["app", "router", "route"])
@pytest.mark.parametrize("path", ["/declared", "/by-itself", "/by-a-dependency"])
def test_a_route_whose_body_has_a_limit_lists_its_413(where: str, path: str) -> None:
    def limit(place: str) -> Any:
        return {"max_body_size": 10} if place == where else {}

    async def declared(item: Item) -> None: ...

    async def by_itself(request: Request) -> None:
        await request.body()

    async def by_a_dependency(body: Annotated[bytes, Depends(_read)]) -> None: ...

    app, router = FastAPI(**limit("app")), APIRouter(**limit("router"))
    app.add_middleware(ProblemMiddleware)
    endpoints: tuple[Any, ...] = (declared, by_itself, by_a_dependency)
    endpoint = next(each for each in endpoints if path == "/" + each.__name__.replace("_", "-"))
    router.post(path, **limit("route"))(endpoint)
    app.include_router(router)
    careful = documented(TestClient(app), app)
    assert careful.post(path, json={"name": "longer than ten bytes"}).status_code == 413


def test_the_document_is_made_once_and_needs_no_running_app() -> None:
    app = FastAPI()
    app.get("/")(raises(410)(lambda: None))
    document_problems(app)
    document_problems(app)
    assert app.openapi() is app.openapi()
    assert "410" in app.openapi()["paths"]["/"]["get"]["responses"]


def test_a_mounted_app_documents_its_own_problems() -> None:
    app, inner = FastAPI(), FastAPI()
    inner.get("/")(raises(410)(lambda: None))
    app.mount("/inner", inner)
    app.add_middleware(ProblemMiddleware)
    schema = TestClient(app).get("/inner/openapi.json").json()
    assert "410" in schema["paths"]["/"]["get"]["responses"]


def test_a_model_that_the_user_documents_stands_beside_the_problem() -> None:
    app = FastAPI()
    app.get(
        "/", responses={409: {"model": Item}, 410: {"content": {MEDIA_TYPE: {"schema": {"title": "x"}}}}}
    )(raises(409, 410)(lambda: None))
    document_problems(app)
    responses = app.openapi()["paths"]["/"]["get"]["responses"]
    assert sorted(responses["409"]["content"]) == ["application/json", MEDIA_TYPE]
    assert responses["410"]["content"][MEDIA_TYPE]["schema"] == {"anyOf": [{"title": "x"}, PROBLEM]}


@pytest.mark.parametrize("wrong", ["409", object(), HTTPException])
def test_what_says_no_status_cannot_be_declared(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="raises"):
        raises(wrong)


def test_a_dependency_that_is_an_object_declares_on_its_method() -> None:
    class Guard:
        @raises(SoldOutError)
        async def __call__(self) -> None: ...

    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/", dependencies=[Depends(Guard())])
    async def index() -> None: ...

    with TestClient(app):
        assert "409" in app.openapi()["paths"]["/"]["get"]["responses"]


def test_a_component_s_dependency_declares_by_an_attribute() -> None:
    class Limiter:
        __problems__ = (429, Problem(status=409, type="busy"), ProblemError(503, type="closed"))

        async def __call__(self) -> None: ...

    app = FastAPI()
    app.get("/", dependencies=[Depends(Limiter())])(lambda: None)
    document_problems(app)
    assert list(app.openapi()["paths"]["/"]["get"]["responses"]) == ["200", "409", "429", "500", "503"]


def test_documented_responses_pass(app: FastAPI) -> None:
    client = documented(TestClient(app), app)
    assert client.post("/items/0", json={"name": "mug"}).status_code == 200
    assert client.post("/items/1", json={"name": "mug"}).status_code == 409
    assert client.post("/items/2", json={"name": "mug"}).status_code == 404
    assert client.post("/items/x", json={}).status_code == 422
    assert client.get("/token").status_code == 401
    assert client.get("/nowhere").status_code == 404
    assert client.delete("/plain").status_code == 405


def test_a_status_that_is_not_documented_fails(app: FastAPI) -> None:
    client = documented(TestClient(app), app)
    with pytest.raises(AssertionError, match=r"POST /items/\{item_id\} answered 418; its document lists 200"):
        client.post("/items/3", json={"name": "mug"})


def test_a_problem_type_that_is_not_documented_fails(app: FastAPI) -> None:
    client = documented(TestClient(app), app)
    with pytest.raises(
        AssertionError, match="the problem '/problems/another'; its document lists /problems/sold"
    ):
        client.post("/items/4", json={"name": "mug"})


def test_a_media_type_that_is_not_documented_fails() -> None:
    app = FastAPI()
    app.get("/")(lambda: None)

    @app.get("/items/{number}")
    def item(number: int) -> None: ...

    client = documented(TestClient(app), app)
    document_problems(app)
    with pytest.raises(
        AssertionError, match="422 as application/json; its document lists application/problem"
    ):
        client.get("/items/x")


async def test_an_async_client_is_checked_as_well(app: FastAPI) -> None:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as plain:
        client = documented(plain, app)
        assert (await client.post("/items/1", json={"name": "mug"})).status_code == 409
        with pytest.raises(AssertionError, match="418"):
            await client.post("/items/3", json={"name": "mug"})


def test_a_response_can_be_checked_by_itself(app: FastAPI) -> None:
    assert_documented(TestClient(app).get("/plain"), app)


# --- pages ---


def test_a_type_uri_resolves_to_its_page(app: FastAPI) -> None:
    client = TestClient(app)
    uri = client.post("/items/1", json={"name": "mug"}).json()["type"]
    assert client.get(uri).json() == {
        "type": "/problems/sold-out",
        "title": "Sold out",
        "status": 409,
        "description": "Nothing is left of this article.\n\nTry <again> when it is back.",
    }
    page = client.get(uri, headers={"Accept": "text/html"})
    assert "<h1>Sold out</h1>" in page.text
    assert "Try &lt;again&gt;" in page.text


def test_the_base_lists_every_type(app: FastAPI) -> None:
    client = TestClient(app)
    assert [each["type"] for each in client.get("/problems/").json()] == [
        "/problems/no-such-item",
        "/problems/sold-out",
    ]
    assert 'href="/problems/sold-out"' in client.get("/problems/", headers={"Accept": "text/html"}).text


def test_an_unknown_type_has_no_page(app: FastAPI) -> None:
    assert TestClient(app).get("/problems/unknown").status_code == 404


def test_an_absolute_base_is_served_at_its_path() -> None:
    problems = Problems(base="https://shop.example/errors/")
    problems.register(LookupError, status=404, type="no-such-item")
    app = FastAPI()
    app.include_router(problem_pages(problems))
    assert TestClient(app).get("/errors/no-such-item").json()["type"] == (
        "https://shop.example/errors/no-such-item"
    )


@pytest.mark.parametrize("base", ["/api/problems/", "https://shop.example/api/problems/"])
@pytest.mark.parametrize("root_path", ["/api", "/api/"])
@pytest.mark.parametrize("mounted", [True, False])
def test_a_type_uri_resolves_behind_a_prefix_that_never_reaches_the_app(
    base: str, root_path: str, mounted: bool
) -> None:
    problems = Problems(base=base)
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, problems=problems)
    app.include_router(problem_pages(problems, root_path=root_path))

    @app.get("/items")
    async def items() -> None:
        raise SoldOutError("mug", 7)

    if mounted:
        outside = FastAPI()
        outside.mount("/api", app)
        client = TestClient(outside, base_url="https://shop.example")
    else:
        client = TestClient(app, root_path="/api", base_url="https://shop.example")
    uri = client.get("/api/items").json()["type"]
    assert uri == base + "sold-out"
    assert client.get(uri).json()["type"] == uri
    assert [each["type"] for each in client.get(base).json()] == [uri]


@pytest.mark.parametrize("root_path", ["/other", "/prob", None])
def test_pages_behind_a_prefix_that_the_base_lacks_are_refused(root_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="root_path"):
        problem_pages(Problems(base="/problems/"), root_path=root_path)


# --- callers ---


def test_a_caller_gets_the_typed_exception_back(app: FastAPI) -> None:
    response = TestClient(app).post("/items/1", json={"name": "mug"})
    with pytest.raises(SoldOutError, match="mug is gone") as caught:
        raise_for_problem(response)
    assert caught.value.sku == "mug"


def test_a_caller_may_know_another_base_and_name_the_classes(app: FastAPI) -> None:
    response = TestClient(app).post("/items/1", json={"name": "mug"})
    with pytest.raises(SoldOutError):
        raise_for_problem(
            response, exceptions=[SoldOutError], problems=Problems(base="https://elsewhere.example/")
        )


def test_a_class_of_others_is_raised_from_a_registry(app: FastAPI) -> None:
    problems = Problems()
    problems.register(LookupError, status=404, type="no-such-item")
    response = TestClient(app).post("/items/2", json={"name": "mug"})
    with pytest.raises(LookupError):
        raise_for_problem(response, problems=problems)


def test_a_class_may_make_its_own() -> None:
    @problem(status=400, type="own-make")
    class OwnMakeError(Exception):
        @classmethod
        def from_problem(cls, document: dict[str, Any]) -> OwnMakeError:
            return cls(document["left"])

    response = httpx2.Response(400, json={"type": "/problems/own-make", "left": 3})
    response.headers["content-type"] = MEDIA_TYPE
    with pytest.raises(OwnMakeError, match="3"):
        raise_for_problem(response)


@pytest.mark.parametrize(
    ("response", "kind", "title"),
    [
        (httpx2.Response(404, json={"type": "/unknown", "title": "Lost"}), "/unknown", "Lost"),
        (httpx2.Response(404, text="not json"), "about:blank", "Not Found"),
        (httpx2.Response(404, json=[1]), "about:blank", "Not Found"),
        (
            httpx2.Response(404, content=b"{", headers={"content-type": MEDIA_TYPE}),
            "about:blank",
            "Not Found",
        ),
        (httpx2.Response(404, json={"type": 1, "title": None}), "about:blank", "Not Found"),
    ],
)
def test_what_no_class_stands_for_is_a_remote_problem(response: Any, kind: str, title: str) -> None:
    with pytest.raises(RemoteProblemError) as caught:
        raise_for_problem(response)
    assert (caught.value.status, caught.value.type, caught.value.title) == (404, kind, title)


def test_a_class_of_two_parents_is_one_class() -> None:
    class ShopError(Exception):
        pass

    @problem(status=404, type="of-two-parents")
    class NoSuchArticleError(ShopError, LookupError):
        pass

    response = httpx2.Response(404, json={"type": "/problems/of-two-parents"})
    with pytest.raises(NoSuchArticleError):
        raise_for_problem(response)


def test_a_class_may_be_an_http_exception() -> None:
    @problem(status=402, type="card-refused")
    class CardRefusedError(HTTPException):
        def __init__(self, card: str) -> None:
            super().__init__(402, f"{card} was refused")

    response = httpx2.Response(402, json={"type": "/problems/card-refused", "detail": "no money"})
    with pytest.raises(CardRefusedError, match="402: no money"):
        raise_for_problem(response)


def test_two_classes_of_one_type_have_to_be_chosen_from() -> None:
    class OneError(Exception):
        pass

    class OtherError(Exception):
        pass

    for cls in (OneError, OtherError):
        problem(status=400, type="of-two-classes")(cls)
    response = httpx2.Response(400, json={"type": "/problems/of-two-classes"})
    with pytest.raises(ConfigurationError, match=r"OneError and .*OtherError both stand for"):
        raise_for_problem(response, exceptions=[OneError, OtherError])
    with pytest.raises(OtherError):
        raise_for_problem(response, exceptions=[OtherError])


def test_a_response_that_is_no_error_passes() -> None:
    raise_for_problem(httpx2.Response(302))


def test_a_remote_problem_that_nobody_handles_is_a_502_without_its_text() -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/")
    def index() -> None:
        raise_for_problem(httpx2.Response(404, json={"type": "/x", "title": "secret"}))

    response = TestClient(app).get("/")
    assert response.status_code == 502
    assert "secret" not in response.text


def test_a_body_is_read_before_anything_else(app: FastAPI) -> None:
    """The 400 that a route with a body lists is one that it sends."""
    response = TestClient(app).post(
        "/items/0", content=b"\xff\xfe{", headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.headers["content-type"] == MEDIA_TYPE


def test_a_route_lists_what_our_own_dependencies_refuse_with() -> None:
    auth, tasks = JWTAuth(secrets.token_urlsafe(48), algorithms=["HS256"]), Tasks()
    limit = RateLimiter(MemoryBackend().counters)("1/minute")
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RateLimitMiddleware)
    needed = [Depends(auth.requires("orders:write")), Depends(tasks), Depends(limit)]
    app.get("/", dependencies=needed)(lambda: None)
    client = TestClient(app)
    responses = client.get("/openapi.json").json()["paths"]["/"]["get"]["responses"]
    assert sorted(responses) == ["200", "401", "403", "429", "500", "503"]
    assert all(MEDIA_TYPE in responses[status]["content"] for status in responses if status != "200")
