"""Exceptions become problems wherever they are raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_prodkit import ConfigurationError, Problem, ProblemMiddleware, Problems, problem, raises

ORIGIN = {"Origin": "https://shop.example"}


@problem(
    status=409,
    type="out-of-stock",
    title="Out of stock",
    detail="{sku} is sold out",
    members=["sku"],
    headers={"Retry-After": "60"},
)
class OutOfStockError(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__(f"secret shelf of {sku}")
        self.sku = sku


class SeasonOverError(OutOfStockError):
    """Inherits what it means."""


@problem(status=502, type="supplier-down")
class SupplierError(Exception):
    pass


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def logged() -> Any:
    handler = Records()
    logger = logging.getLogger("fastapi_prodkit.problems")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def endpoint() -> None:
        raise make()

    return endpoint


def app_raising(make: Callable[[], BaseException], **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, **options)
    app.get("/")(raising(make))
    return app


def quiet(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


async def forward(request: Any, call_next: Any) -> Any:
    return await call_next(request)


# --- declared and registered ---


@pytest.mark.parametrize("cls", [OutOfStockError, SeasonOverError])
def test_a_declared_exception_and_its_subclasses_are_answered(cls: Any, logged: Records) -> None:
    response = TestClient(app_raising(lambda: cls("mug"))).get("/")
    assert response.status_code == 409
    assert response.headers["retry-after"] == "60"
    assert response.json() == {
        "type": "/problems/out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "mug is sold out",
        "sku": "mug",
    }
    assert logged.messages == []


def test_a_registered_class_of_others_is_answered() -> None:
    problems = Problems(base="https://errors.shop.example/")
    problems.register(LookupError, status=404, type="no-such-thing", detail=lambda exc: f"no {exc.args[0]}")
    response = TestClient(app_raising(lambda: KeyError("mug"), problems=problems)).get("/")
    assert response.json() == {
        "type": "https://errors.shop.example/no-such-thing",
        "title": "Not Found",
        "status": 404,
        "detail": "no mug",
    }


def test_a_registration_wins_over_a_declaration() -> None:
    problems = Problems()
    problems.register(OutOfStockError, status=410)
    response = TestClient(app_raising(lambda: SeasonOverError("mug"), problems=problems)).get("/")
    assert response.status_code == 410
    assert "mug" not in response.text


def test_a_registration_holds_from_the_moment_it_is_made() -> None:
    problems = Problems()
    client = TestClient(app_raising(lambda: OutOfStockError("mug"), problems=problems))
    assert client.get("/").status_code == 409
    problems.register(OutOfStockError, status=410)
    assert client.get("/").status_code == 410


def test_a_declared_server_error_is_answered_logged_and_given_to_the_hooks(logged: Records) -> None:
    seen: list[BaseException] = []
    response = TestClient(app_raising(SupplierError, on_error=seen.append)).get("/")
    assert (response.status_code, response.json()["type"]) == (502, "/problems/supplier-down")
    assert logged.messages == ["SupplierError in GET /"]
    assert [type(each) for each in seen] == [SupplierError]


def test_a_declaration_that_fails_is_a_500_and_shows_both_errors(logged: Records) -> None:
    @problem(status=409, detail="{no_such_attribute}")
    class Broken(Exception):  # noqa: N818 -- what breaks is its declaration
        pass

    response = quiet(app_raising(Broken)).get("/")
    assert response.status_code == 500
    assert logged.messages == ["AttributeError in the declaration of a problem of GET /", "Broken in GET /"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"status": 200}, "status=200"),
        ({"status": 409, "type": "out of stock"}, "type='out of stock'"),
        ({"status": 409, "type": ""}, "type=''"),
        ({"status": 409, "members": ["title"]}, "members=.'title'."),
        ({"status": 409, "close_code": 1006}, "close_code=1006"),
        ({"status": 409, "close_code": 2000}, "close_code=2000"),
    ],
)
def test_a_declaration_that_cannot_work_names_the_argument(arguments: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        problem(**arguments)(type("SomeError", (Exception,), {}))
    with pytest.raises(ConfigurationError, match=named):
        Problems().register(ValueError, **arguments)
    with pytest.raises(ConfigurationError, match=named):
        Problem(**arguments)


@pytest.mark.parametrize(
    "options", [{"max_errors": 0}, {"on_error": [print, "sentry"]}, {"translations": {"de": "missing"}}]
)
def test_a_middleware_that_cannot_work_says_so(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        ProblemMiddleware(FastAPI().router, **options)


async def _async_hook(exc: BaseException) -> None: ...


def test_a_hook_that_nobody_would_await_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_error"):
        ProblemMiddleware(FastAPI().router, on_error=_async_hook)


def test_a_middleware_around_an_app_says_how_it_is_installed() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.add_middleware"):
        TestClient(ProblemMiddleware(FastAPI())).get("/")


@pytest.mark.parametrize("base", ["problems", "/problems", "problems/"])
def test_a_base_that_cannot_work_is_named(base: str) -> None:
    with pytest.raises(ConfigurationError, match="base="):
        Problems(base=base)


def test_a_thing_that_is_no_exception_cannot_be_registered() -> None:
    with pytest.raises(ConfigurationError, match="is not an exception class"):
        Problems().register(int, status=400)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is not an exception class"):
        problem(status=400)(int)  # type: ignore[type-var]


# --- where it is raised ---


def test_it_may_be_raised_in_a_dependency_and_after_a_yield() -> None:
    app = app_raising(lambda: OutOfStockError("mug"))

    async def fails() -> None:
        raise OutOfStockError("cup")

    async def fails_later() -> AsyncIterator[int]:
        yield 1
        raise OutOfStockError("jar")

    @app.get("/dependency", dependencies=[Depends(fails)])
    @app.get("/later", dependencies=[Depends(fails_later, scope="function")])
    async def index() -> None: ...

    client = TestClient(app)
    assert client.get("/dependency").json()["sku"] == "cup"
    assert client.get("/later").json()["sku"] == "jar"


def test_one_that_is_raised_when_a_dependency_is_closed_is_logged(logged: Records) -> None:
    async def fails_at_last() -> AsyncIterator[int]:
        yield 1
        raise OutOfStockError("jar")

    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    app.get("/", dependencies=[Depends(fails_at_last)])(lambda: "done")
    assert quiet(app).get("/").json() == "done"
    assert logged.messages == ["OutOfStockError after the response to GET /"]


class Refusing:
    """A user's middleware that raises."""

    def __init__(self, app: ASGIApp, make: Callable[[], Exception]) -> None:
        self.app = app
        self.make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise self.make()
        await self.app(scope, receive, send)


@pytest.mark.parametrize("first", [True, False])
def test_it_may_be_raised_in_a_middleware_and_the_ones_outside_still_work(first: bool) -> None:
    app = FastAPI()
    if first:
        app.add_middleware(ProblemMiddleware)
    app.add_middleware(Refusing, make=lambda: HTTPException(401, headers={"WWW-Authenticate": "Basic"}))
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    if not first:
        app.add_middleware(ProblemMiddleware)
    response = TestClient(app).get("/", headers=ORIGIN)
    assert response.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401}
    assert response.headers["www-authenticate"] == "Basic"
    assert response.headers["access-control-allow-origin"] == "*"


def test_the_outermost_middleware_may_raise_too(logged: Records) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(Refusing, make=lambda: RuntimeError("secret"))
    response = quiet(app).get("/")
    assert (response.status_code, "secret" in response.text) == (500, False)
    assert logged.messages == ["RuntimeError in GET no route"]


def test_a_middleware_of_the_user_sees_a_response_and_not_the_exception() -> None:
    statuses = []

    async def watch(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        statuses.append(response.status_code)
        return response

    app = app_raising(lambda: ValueError("secret"))
    app.add_middleware(BaseHTTPMiddleware, dispatch=watch)
    assert quiet(app).get("/").status_code == 500
    assert statuses == [500]


def test_mounted_apps_answer_problems_as_well(logged: Records) -> None:
    inner, innermost, app = FastAPI(), FastAPI(), FastAPI()
    innermost.get("/boom/{number}")(raising(lambda: ValueError("secret")))
    innermost.get("/stock")(raising(lambda: OutOfStockError("mug")))
    inner.mount("/deep", innermost)
    app.mount("/inner", inner)
    app.add_middleware(ProblemMiddleware)
    client = quiet(app)
    assert client.get("/inner/deep/stock").json()["type"] == "/problems/out-of-stock"
    assert client.get("/inner/nowhere").json() == {"type": "about:blank", "title": "Not Found", "status": 404}
    boom = client.get("/inner/deep/boom/7")
    assert (boom.status_code, boom.headers["content-type"]) == (500, "application/problem+json")
    assert logged.messages == ["ValueError in GET /inner/deep/boom/{number}"]


def test_a_mounted_app_with_problems_of_its_own_keeps_them() -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/stock")(raises(OutOfStockError)(raising(lambda: OutOfStockError("mug"))))
    inner.add_middleware(ProblemMiddleware, problems=Problems(base="/inner/errors/"))
    app.mount("/inner", inner)
    app.add_middleware(ProblemMiddleware)
    client = TestClient(app)
    assert client.get("/inner/stock").json()["type"] == "/inner/errors/out-of-stock"
    assert '"/inner/errors/out-of-stock"' in client.get("/inner/openapi.json").text


def test_a_mounted_app_with_problems_of_its_own_logs_where_it_is_mounted(logged: Records) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/boom")(raising(lambda: ValueError("secret")))
    inner.add_middleware(ProblemMiddleware)
    app.mount("/inner/{tenant}", inner)
    assert quiet(app).get("/inner/ada/boom").status_code == 500
    assert logged.messages == ["ValueError in GET /inner/{tenant}/boom"]


def test_a_mounted_app_logs_where_it_is_mounted_once_more_within_a_second(
    logged: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("fastapi_prodkit._routes.monotonic", lambda: now)
    inner, app = FastAPI(), FastAPI()
    inner.get("/boom")(raising(lambda: ValueError("secret")))
    app.mount("/first", inner)
    app.add_middleware(ProblemMiddleware)
    client = quiet(app)
    client.get("/first/boom")
    app.mount("/second", inner)
    now += 1
    client.get("/second/boom")
    assert logged.messages == ["ValueError in GET /first/boom", "ValueError in GET /second/boom"]


def test_an_error_in_a_background_task_is_logged_and_not_answered(logged: Records) -> None:
    seen: list[BaseException] = []
    app = FastAPI()
    app.add_middleware(ProblemMiddleware, on_error=seen.append)

    def fail(make: Callable[[], Exception]) -> None:
        raise make()

    @app.get("/{kind}")
    async def index(kind: str, tasks: BackgroundTasks) -> str:
        makes = {"plain": lambda: ValueError("secret"), "declared": lambda: OutOfStockError("mug")}
        tasks.add_task(fail, makes.get(kind, lambda: HTTPException(404)))
        return "done"

    client = quiet(app)
    for kind in ("plain", "declared", "http"):
        response = client.get(f"/{kind}")
        assert (response.status_code, response.json()) == (200, "done")
    assert logged.messages == [
        "ValueError after the response to GET /{kind}",
        "OutOfStockError after the response to GET /{kind}",
        "HTTPException after the response to GET /{kind}",
    ]
    assert len(seen) == 3


# --- task groups ---


async def _task_group(*makes: Callable[[], Exception]) -> None:
    async def fail(make: Callable[[], Exception]) -> None:
        raise make()

    async with asyncio.TaskGroup() as group:
        for make in makes:
            group.create_task(fail(make))


def _grouped(*makes: Callable[[], Exception]) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/")
    async def index() -> None:
        await _task_group(lambda: OutOfStockError("mug"), *makes)

    return app


def test_a_uniform_group_is_answered_as_its_leaf(logged: Records) -> None:
    response = TestClient(_grouped(lambda: OutOfStockError("cup"))).get("/")
    assert (response.status_code, response.json()["sku"]) == (409, "mug")
    assert logged.messages == []


def test_a_mixed_group_is_answered_as_the_most_severe_and_every_leaf_is_logged(logged: Records) -> None:
    response = quiet(_grouped(lambda: HTTPException(404), lambda: ValueError("secret"))).get("/")
    assert response.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    (record,) = logged.records
    for name in ("OutOfStockError", "HTTPException", "ValueError"):
        assert name in (record.exc_text or "")
    assert "secret" not in (record.exc_text or "")


@pytest.mark.parametrize("first", [0, 1])
def test_what_nobody_foresaw_outranks_a_status_that_is_higher(first: int, logged: Records) -> None:
    members: list[Exception] = [SupplierError(), ValueError("secret")]
    group = ExceptionGroup("", [members[first], members[1 - first]])
    response = quiet(app_raising(lambda: group)).get("/")
    assert (response.status_code, response.json()["type"]) == (500, "about:blank")
    assert len(logged.records) == 1


def test_a_mixed_group_of_client_errors_is_answered_and_logged(logged: Records) -> None:
    response = TestClient(_grouped(lambda: HTTPException(404))).get("/")
    assert response.status_code == 409
    assert len(logged.records) == 1


def test_a_group_of_one_type_and_two_statuses_is_mixed(logged: Records) -> None:
    app = app_raising(lambda: ExceptionGroup("", [HTTPException(404), HTTPException(403)]))
    assert TestClient(app).get("/").status_code == 404
    assert len(logged.records) == 1


# --- handlers of the user ---


def test_a_handler_of_the_user_keeps_its_say() -> None:
    app = app_raising(lambda: OutOfStockError("mug"))

    @app.exception_handler(OutOfStockError)
    async def stock(request: Request, exc: OutOfStockError) -> JSONResponse:
        return JSONResponse({"mine": exc.sku}, 400)

    @app.exception_handler(404)
    async def missing(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 404)

    client = TestClient(app)
    assert client.get("/").json() == {"mine": "mug"}
    assert client.get("/nowhere").text == "mine"


def test_a_handler_of_the_user_for_every_http_exception_keeps_its_say() -> None:
    app = app_raising(lambda: HTTPException(418))

    @app.exception_handler(HTTPException)
    def teapot(request: Request, exc: HTTPException) -> PlainTextResponse:
        return PlainTextResponse("mine", exc.status_code)

    assert TestClient(app).get("/").text == "mine"


def test_handlers_in_the_place_of_fastapi_s_defaults_keep_their_say() -> None:
    app = app_raising(lambda: HTTPException(418))

    @app.exception_handler(StarletteHTTPException)
    @app.exception_handler(RequestValidationError)
    async def mine(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"mine: {type(exc).__name__}", 400)

    @app.get("/items")
    def items(number: int) -> None: ...

    client = TestClient(app)
    assert client.get("/").text == "mine: HTTPException"
    assert client.get("/nowhere").text == "mine: HTTPException"
    assert client.get("/items").text == "mine: RequestValidationError"


@pytest.mark.parametrize("key", [500, Exception])
def test_a_handler_of_the_user_for_everything_answers_inside_the_middlewares(
    key: Any, logged: Records
) -> None:
    app = app_raising(lambda: ValueError("secret"))
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    @app.exception_handler(key)
    def apologise(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", 500)

    response = quiet(app).get("/", headers=ORIGIN)
    assert response.text == "sorry"
    assert response.headers["access-control-allow-origin"] == "*"
    assert len(logged.records) == 1


def test_a_handler_of_the_user_that_fails_is_logged_and_the_problem_is_sent(logged: Records) -> None:
    app = app_raising(lambda: ValueError("secret"))

    @app.exception_handler(Exception)
    async def apologise(request: Request, exc: Exception) -> PlainTextResponse:
        raise KeyError("secret")

    response = quiet(app).get("/")
    assert response.json()["title"] == "Internal Server Error"
    assert logged.messages == ["ValueError in GET /", "KeyError in the handler of exceptions of GET /"]


def test_a_page_that_fails_is_logged_and_the_document_is_sent(logged: Records) -> None:
    app = app_raising(lambda: HTTPException(404), html=lambda document: document["nothing"])
    response = quiet(app).get("/", headers={"Accept": "text/html"})
    assert response.json()["status"] == 404
    assert logged.messages == ["KeyError in the page of a problem of GET /"]


def test_a_redirect_that_is_raised_is_no_problem() -> None:
    app = app_raising(lambda: HTTPException(307, headers={"Location": "/elsewhere"}))
    response = TestClient(app, follow_redirects=False).get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/elsewhere")
    assert response.headers["content-type"] == "application/json"


# --- who is told ---


def test_the_hooks_see_it_once_and_one_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[BaseException] = []

    def broken(exc: BaseException) -> None:
        raise OSError

    app = app_raising(lambda: ValueError("secret"), on_error=[broken, seen.append])
    assert quiet(app).get("/").status_code == 500
    assert [type(each) for each in seen] == [ValueError]
    assert "on_error hook" in caplog.text


@pytest.mark.parametrize("raises_into_tests", [True, False])
@pytest.mark.parametrize("between", [None, GZipMiddleware, partial(BaseHTTPMiddleware, dispatch=forward)])
def test_a_hook_such_as_sentry_s_sees_a_500_once_whoever_is_the_client(
    between: Any, raises_into_tests: bool, logged: Records
) -> None:
    seen: list[BaseException] = []
    app = app_raising(lambda: ValueError("secret"), on_error=seen.append)
    if between is not None:
        app.add_middleware(between)
    client = TestClient(app, raise_server_exceptions=raises_into_tests)
    if raises_into_tests:
        with pytest.raises(ValueError, match="secret") as raised:
            client.get("/")
        assert seen == [raised.value]
    else:
        assert client.get("/").status_code == 500
    assert [type(each) for each in seen] == [ValueError]
    assert len(logged.records) == 1


def test_the_middleware_installed_twice_answers_and_logs_once(logged: Records) -> None:
    app = app_raising(lambda: ValueError("secret"))
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(ProblemMiddleware)
    response = quiet(app).get("/", headers=ORIGIN)
    assert response.headers["access-control-allow-origin"] == "*"
    assert len(logged.records) == 1


def test_the_record_names_the_line_and_hides_the_text(logged: Records) -> None:
    quiet(app_raising(lambda: ValueError("secret"))).get("/")
    (record,) = logged.records
    assert (record.funcName, record.levelno) == ("endpoint", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    formatted = logging.Formatter().format(record)
    assert "ValueError" in formatted
    assert "in endpoint" in formatted
    assert "ValueError: secret" not in formatted


@pytest.mark.parametrize("debug", [True, False])
def test_the_text_is_logged_on_request_and_in_debug_mode(debug: bool, logged: Records) -> None:
    app = app_raising(lambda: ValueError("sec" + "ret"), exception_text=not debug)
    app.debug = debug
    response = quiet(app).get("/")
    assert "ValueError: secret" in logging.Formatter().format(logged.records[0])
    assert ("ValueError: secret" in response.text) is debug


def test_debug_mode_shows_the_developer_the_traceback() -> None:
    app = app_raising(lambda: ValueError("<b>"))
    app.debug = True
    client = quiet(app)
    assert client.get("/").json()["traceback"][-1] == "ValueError: <b>"
    page = client.get("/", headers={"Accept": "text/html"})
    assert "ValueError: &lt;b&gt;" in page.text
