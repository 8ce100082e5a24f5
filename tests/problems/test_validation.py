"""A 422 says where and what, in the reader's language, and never what was sent."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, Cookie, FastAPI, Header, Path, Query
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fastapi_prodkit import ConfigurationError, ProblemMiddleware
from fastapi_prodkit.problems.validation import field_errors

CANARY = "canary-4711"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = Field(max_length=2)


def _custom(value: str) -> str:
    raise PydanticCustomError("no_such_sku", "SKU {sku} is unknown", {"sku": value})


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    loose: int | Cat | None = None
    names: dict[str, int] = {}
    nested: list[list[Cat]] = []
    home_page: AnyUrl | None = Field(None, alias="homePage")
    password: SecretStr | None = Field(None, min_length=12)
    sku: Annotated[str, AfterValidator(_custom)] | None = None
    coupon: str = ""

    @field_validator("coupon")
    @classmethod
    def _known(cls, value: str) -> str:
        if value:
            raise ValueError(f"no coupon {value}")
        return value


def create_app(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, **options)

    @app.post("/orders/{order_id}")
    async def order(
        order_id: Annotated[int, Path()],
        order: Order,
        page: Annotated[list[int] | None, Query()] = None,
        x_token: Annotated[int | None, Header()] = None,
        session: Annotated[int | None, Cookie()] = None,
    ) -> None: ...

    @app.post("/two")
    async def two(first: Annotated[Cat, Body()], second: Annotated[Cat, Body()]) -> None: ...

    return app


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app())


def errors_of(client: TestClient, body: Any, path: str = "/orders/1", **options: Any) -> Any:
    response = client.post(path, json=body, **options)
    assert response.status_code == 422
    assert CANARY not in response.text
    return response.json()["errors"]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"names": {"a/b~c": CANARY}}, "/names/a~1b~0c", "int_parsing"),
        ({"nested": [[], [{"kind": "cat", "lives": 10}]]}, "/nested/1/0/lives", "less_than_equal"),
        ({"pet": {"kind": "cat", "lives": 10}}, "/pet/lives", "less_than_equal"),
        ({"pet": {"kind": "cat"}}, "/pet/lives", "missing"),
        ({"pet": {"kind": CANARY}}, "/pet", "union_tag_invalid"),
        ({"pet": {"kind": "dog", "tricks": [CANARY] * 3}}, "/pet/tricks", "too_long"),
        ({"homePage": CANARY}, "/homePage", "url_parsing"),
        ({"password": CANARY}, "/password", "too_short"),
        ({"sku": CANARY}, "/sku", "no_such_sku"),
        ({"coupon": CANARY}, "/coupon", "value_error"),
        ({"unknown": CANARY}, "/unknown", "extra_forbidden"),
        ([CANARY], "", "model_attributes_type"),
        (None, "", "missing"),
    ],
)
def test_a_pointer_leads_to_the_place_in_the_body(
    client: TestClient, body: Any, pointer: str, code: str
) -> None:
    (error,) = errors_of(client, body)
    assert (error["pointer"], error["code"]) == (pointer, code)


def test_the_branches_of_a_union_are_no_part_of_a_pointer(client: TestClient) -> None:
    errors = errors_of(client, {"loose": {"kind": "cat", "lives": CANARY}})
    assert [(error["pointer"], error["code"]) for error in errors] == [
        ("/loose", "int_type"),
        ("/loose/lives", "int_parsing"),
    ]


def test_several_bodies_are_told_apart(client: TestClient) -> None:
    (error,) = errors_of(client, {"first": {"kind": "cat", "lives": 1}, "second": {"kind": "cat"}}, "/two")
    assert error["pointer"] == "/second/lives"


def test_what_is_missing_has_a_name_where_there_is_no_body_at_all(client: TestClient) -> None:
    errors = client.post("/two").json()["errors"]
    assert [error["pointer"] for error in errors] == ["/first", "/second"]


def test_parameters_headers_and_cookies_are_named(client: TestClient) -> None:
    client.cookies.set("session", CANARY)
    try:
        errors = errors_of(client, {}, f"/orders/{CANARY}?page=1&page={CANARY}", headers={"X-Token": CANARY})
    finally:
        client.cookies.clear()
    places = [{**error, "detail": "", "code": ""} for error in errors]
    assert places == [
        {"parameter": "order_id", "detail": "", "code": ""},
        {"parameter": "page", "detail": "", "code": ""},
        {"header": "x-token", "detail": "", "code": ""},
        {"cookie": "session", "detail": "", "code": ""},
    ]


def test_broken_json_is_named_and_not_repeated(client: TestClient) -> None:
    response = client.post(
        "/orders/1", content=f'{{"a": {CANARY}', headers={"content-type": "application/json"}
    )
    assert response.json()["errors"] == [{"detail": "Invalid JSON", "pointer": "", "code": "json_invalid"}]


@pytest.mark.parametrize("limit", [1, 3])
def test_the_list_is_bounded_and_says_what_it_omits(limit: int) -> None:
    client = TestClient(create_app(max_errors=limit))
    response = client.post("/orders/1", json={"names": dict.fromkeys(map(str, range(1000)), CANARY)})
    document = response.json()
    assert len(document["errors"]) == limit
    assert document["omitted"] == 1000 - limit
    assert len(response.content) < 1000


def test_a_key_of_the_client_is_cut() -> None:
    client = TestClient(create_app())
    (error,) = errors_of(client, {"names": {"k" * 10_000: "x"}})
    assert len(error["pointer"]) < 200


def test_the_texts_of_validators_are_sent_only_on_request() -> None:
    body = {"coupon": "SPRING"}
    assert errors_of(TestClient(create_app()), body)[0]["detail"] == "Input is not valid"
    loud = TestClient(create_app(validator_text=True))
    assert errors_of(loud, body)[0]["detail"] == "Value error, no coupon SPRING"


# --- languages ---

GERMAN = {
    "missing": "Pflichtfeld",
    "less_than_equal": "Höchstens {le}",
    "union_tag_invalid": "{tag} gibt es nicht, {nothing}",
    "Unprocessable Content": "Nicht verarbeitbar",
    "Not Found": "Nicht gefunden",
}


@pytest.fixture(scope="module")
def polyglot() -> TestClient:
    return TestClient(create_app(translations={"de": GERMAN, "pt-BR": {"missing": "Obrigatório"}}))


@pytest.mark.parametrize(
    ("accept", "language", "detail"),
    [
        ("de", "de", "Pflichtfeld"),
        ("de-AT, en;q=0.5", "de", "Pflichtfeld"),
        ("fr, pt-BR;q=0.8, de;q=0.4", "pt-BR", "Obrigatório"),
        ("de;q=0.4, pt-BR;q=0.8", "pt-BR", "Obrigatório"),
        ("PT-br", "pt-BR", "Obrigatório"),
        ("en, de;q=0.9", None, "Field required"),
        ("fr", None, "Field required"),
        ("de;q=0", None, "Field required"),
        ("de;q=x", None, "Field required"),
        ("*", None, "Field required"),
        ("", None, "Field required"),
        (",;=,q=;;" * 1000, None, "Field required"),
    ],
)
def test_the_reader_s_language_is_negotiated(
    polyglot: TestClient, accept: str, language: str | None, detail: str
) -> None:
    response = polyglot.post("/orders/1", json={"pet": {"kind": "cat"}}, headers={"Accept-Language": accept})
    assert response.headers.get("content-language") == language
    assert response.headers["vary"] == "Accept, Accept-Language"
    assert response.json()["errors"][0]["detail"] == detail


def test_titles_are_translated_and_bounds_are_filled_in(polyglot: TestClient) -> None:
    german = {"Accept-Language": "de"}
    document = polyglot.post("/orders/1", json={"pet": {"kind": "cat", "lives": 10}}, headers=german).json()
    assert document["title"] == "Nicht verarbeitbar"
    assert document["errors"][0]["detail"] == "Höchstens 9"
    assert polyglot.get("/nowhere", headers=german).json()["title"] == "Nicht gefunden"


def test_a_translation_cannot_repeat_the_input(polyglot: TestClient) -> None:
    (error,) = errors_of(polyglot, {"pet": {"kind": CANARY}}, headers={"Accept-Language": "de"})
    assert error["detail"] == "? gibt es nicht, ?"


@pytest.mark.parametrize("text", ["Höchstens {0}", "Höchstens {}", "Höchstens {le", "Höchstens le}", 9])
@pytest.mark.parametrize("key", ["less_than_equal", "Unprocessable Content"])
def test_a_translation_that_cannot_be_filled_in_is_refused_by_name(key: str, text: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"translations\['de'\]\['{key}'\].*\{{\{{"):
        create_app(translations={"de": {key: text}}).build_middleware_stack()


def test_a_translation_may_have_braces_and_ask_for_a_form_that_the_bound_does_not_have() -> None:
    texts = {"less_than_equal": "{{Höchstens}} {le:%d}", "missing": "{le:.2f}", "Not Found": "{{weg}}"}
    client = TestClient(create_app(translations={"de": texts}))
    german = {"Accept-Language": "de"}
    (error,) = errors_of(client, {"pet": {"kind": "cat", "lives": 10}}, headers=german)
    assert error["detail"] == "Input should be less than or equal to 9"
    (error,) = errors_of(client, {"pet": {"kind": "cat"}}, headers=german)
    assert error["detail"] == "Field required"
    assert client.get("/nowhere", headers=german).json()["title"] == "{weg}"


# --- whatever is sent ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(CANARY) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["pet", "loose", "names", "nested", "homePage", "password", "sku", "coupon"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4) | JSON)
def test_no_input_gets_out_and_every_pointer_resolves(body: Any) -> None:
    try:
        Order.model_validate(body)
    except ValidationError as error:
        raw = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
    else:
        return
    found = field_errors(raw, body, limit=50, texts=None, quote=False)
    told = [each["detail"] for each in found]
    assert CANARY not in json.dumps(told)
    for each in found:
        _resolve(body, each["pointer"], missing=each["code"] == "missing")


def _resolve(node: Any, pointer: str, *, missing: bool) -> None:
    *steps, last = pointer.split("/") if pointer else [""]
    for step in [*steps[1:], *([last] if pointer and not missing else [])]:
        key = step.replace("~1", "/").replace("~0", "~")
        node = node[int(key)] if isinstance(node, list) else node[key]


def _refuse(given: str) -> str:
    raise PydanticCustomError("int_type", "canary")


def _bound(given: str) -> str:
    raise PydanticCustomError("greater_than", "canary")


class Strange(BaseModel):
    a: Annotated[str, AfterValidator(_refuse)]
    b: Annotated[str, AfterValidator(_bound)]


def test_a_validator_that_takes_a_code_of_pydantic_for_its_own_says_nothing() -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.post("/")
    async def post(body: Strange) -> None: ...

    with TestClient(app) as client:
        errors = client.post("/", json={"a": "", "b": ""}).json()["errors"]
    assert [error["detail"] for error in errors] == ["Input should be a valid integer", "Input is not valid"]
