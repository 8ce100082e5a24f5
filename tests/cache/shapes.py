"""Endpoints of every shape: each builds its routes on a router, with `wrap` around the endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel, ConfigDict, Field, computed_field

Wrap = Callable[..., Callable[[Any], Any]]
Build = Callable[[FastAPI, Wrap], None]

SHAPES: dict[str, tuple[Build, list[dict[str, Any]]]] = {}


def shape(*requests: Any) -> Callable[[Build], Build]:
    """Register a shape and the requests to make of it: a path, or the arguments of a request."""

    def register(build: Build) -> Build:
        asked = [{"method": "GET", "url": each} if isinstance(each, str) else each for each in requests]
        SHAPES[build.__name__] = (build, asked)
        return build

    return register


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    id: int
    name: str = "unnamed"
    note: str | None = None
    price: float = Field(default=1.5, alias="unitPrice")
    secret: str = "hidden"

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own idiom
    @property
    def label(self) -> str:
        return f"{self.id}:{self.name}"


class Public(BaseModel):
    id: int
    name: str


@dataclass
class Point:
    x: int
    y: int


ITEM = {"id": 7, "name": "seven"}


def _model(name: str, **options: Any) -> None:
    def build(app: FastAPI, wrap: Wrap) -> None:
        @app.get("/", response_model=Item, **options)
        @wrap()
        async def get() -> Any:
            return Item(id=7, name="seven", note=None)

    build.__name__ = name
    shape("/")(build)


_model("response_model")
_model("include", response_model_include={"id", "name"})
_model("exclude", response_model_exclude={"secret"})
_model("exclude_unset", response_model_exclude_unset=True)
_model("exclude_defaults", response_model_exclude_defaults=True)
_model("exclude_none", response_model_exclude_none=True)
_model("not_by_alias", response_model_by_alias=False)
_model("created", status_code=201)


@shape("/")
def filtered_by_the_response_model(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/", response_model=Public)
    @wrap()
    async def get() -> Item:
        return Item(id=7, name="seven", secret="never")


@shape("/")
def dictionary(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get():  # type: ignore[no-untyped-def]  # an endpoint may be bare
        return {"a": [1, 2.5, None, True], "at": datetime(2026, 1, 2, tzinfo=UTC), "colour": Colour.RED}


@shape("/")
def list_of_models(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> list[Item]:
        return [Item(id=number) for number in range(20)]


@shape("/")
def dataclass_value(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> Point:
        return Point(1, 2)


@shape("/")
def nothing(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> None:
        return None


@shape("/")
def no_content(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/", status_code=204)
    @wrap()
    async def get() -> None:
        return None


@shape("/")
def html(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/", response_class=HTMLResponse)
    @wrap()
    async def get() -> str:
        return "<h1>ü</h1>"


@shape("/")
def plain_text(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/", response_class=PlainTextResponse)
    @wrap()
    async def get() -> str:
        return "plain"


class Pretty(JSONResponse):
    media_type = "application/vnd.shop+json"

    def render(self, content: Any) -> bytes:
        return b"\n" + super().render(content)


@shape("/")
def custom_response_class(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/", response_class=Pretty)
    @wrap()
    async def get() -> dict[str, int]:
        return {"a": 1}


@shape("/")
def returned_response(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> Response:
        return Response(b"\x00\xff", 203, {"x-one": "1"}, "application/octet-stream")


@shape("/")
def returned_response_with_dependency_headers(app: FastAPI, wrap: Wrap) -> None:
    async def mark(response: Response) -> None:
        response.headers["x-lost"] = "by FastAPI itself"

    @app.get("/", dependencies=[Depends(mark)])
    @wrap()
    async def get() -> Response:
        response = JSONResponse({"a": 1})
        response.headers.append("x-two", "1")
        response.headers.append("x-two", "2")
        return response


@shape("/")
def redirect(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> RedirectResponse:
        return RedirectResponse("/elsewhere?a=ü", 308)


@shape({"method": "HEAD", "url": "/"}, "/")
def file_asked_for_by_head_first(app: FastAPI, wrap: Wrap) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    @wrap()
    async def get() -> FileResponse:
        return FileResponse(Path(__file__), media_type="text/plain")


@shape("/", {"method": "GET", "url": "/", "headers": {"range": "bytes=1-3"}})
def file(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> FileResponse:
        return FileResponse(Path(__file__), filename="shapes.py", media_type="text/plain")


@shape("/")
def stream(app: FastAPI, wrap: Wrap) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"%d\n" % number

    @app.get("/")
    @wrap()
    async def get() -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/csv", headers={"x-rows": "5"})


@shape("/")
def sync_endpoint(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    def get() -> Item:
        return Item(id=1)


@shape("/")
def header_set_by_the_endpoint(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(response: Response) -> int:
        response.headers["x-own"] = "yes"
        response.headers.append("x-many", "1")
        response.headers.append("x-many", "2")
        response.status_code = 202
        return 1


async def inner(response: Response) -> int:
    response.headers["x-inner"] = "1"
    response.set_cookie("visit", "1")
    return 1


async def outer(response: Response, value: Annotated[int, Depends(inner)]) -> int:
    response.headers["x-outer"] = str(value)
    return value


@shape("/")
def header_and_cookie_set_by_dependencies(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(value: Annotated[int, Depends(outer)], response: Response) -> int:
        response.headers["x-outer"] = "replaced"
        response.headers["x-last"] = "1"
        return value


@shape("/")
def status_set_by_a_dependency(app: FastAPI, wrap: Wrap) -> None:
    async def accepted(response: Response) -> None:
        response.status_code = 202

    @app.get("/", dependencies=[Depends(accepted)])
    @wrap()
    async def get() -> int:
        return 1


@shape("/a/b/leaf/1?q=2", "/a/b/leaf/2")
def included_routers(app: FastAPI, wrap: Wrap) -> None:
    leaf, middle, top = APIRouter(), APIRouter(), APIRouter(prefix="/a")

    @leaf.get("/leaf/{number}")
    @wrap()
    async def get(number: int, q: int = 0) -> int:
        return number * 10 + q

    middle.include_router(leaf, prefix="/b")
    top.include_router(middle)
    app.include_router(top)


@shape("/m/n/x/1", "/o/x/1")
def mounted_twice(app: FastAPI, wrap: Wrap) -> None:
    inner, middle = FastAPI(), FastAPI()

    @inner.get("/x/{number}")
    @wrap(shared=True)
    async def get(number: int, request: Request) -> str:
        return f"{request.scope['root_path']} {number}"

    middle.mount("/n", inner)
    app.mount("/m", middle)
    app.mount("/o", inner)


@shape("/", {"method": "HEAD", "url": "/"})
def head_and_get(app: FastAPI, wrap: Wrap) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)  # one operation id, two operations
    @wrap()
    async def get() -> Item:
        return Item(id=1)


@shape("/", {"method": "HEAD", "url": "/"}, {"method": "POST", "url": "/"})
def other_methods_without_route(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> int:
        return 1


@shape("/")
def background_task(app: FastAPI, wrap: Wrap) -> None:
    async def remember(background: BackgroundTasks) -> None:
        background.add_task(_nothing)

    @app.get("/", dependencies=[Depends(remember)])
    @wrap()
    async def get(background: BackgroundTasks) -> int:
        background.add_task(_nothing)
        return 1


def _nothing() -> None:
    return None


async def session() -> AsyncIterator[dict[str, int]]:
    yield {"a": 1}


def sync_session() -> Iterator[int]:
    yield 2


@shape("/")
def yield_dependency(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(
        one: Annotated[dict[str, int], Depends(session)], two: Annotated[int, Depends(sync_session)]
    ) -> int:
        return one["a"] + two


@shape("/users/1", "/orders/1", "/users", "/orders")
def factory_of_routes(app: FastAPI, wrap: Wrap) -> None:
    def crud(name: str) -> None:
        @app.get(f"/{name}/{{number}}")
        @wrap()
        async def get(number: int) -> str:
            return f"{name} {number}"

        @app.get(f"/{name}")
        @wrap()
        async def index() -> list[str]:
            return [name]

    crud("users")
    crud("orders")


@shape("/?q=1", "/?q=a&q=b", "/?q=", "/", "/?q=None", "/?Q=1", "/?q=1&other=2")
def query_values(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(q: Annotated[list[str] | None, Query()] = None) -> list[str] | None:
        return q


class Filter(BaseModel):
    limit: int = 10
    order_by: Literal["name", "price"] = Field(default="name", alias="orderBy")
    tags: list[str] = []


@shape("/?limit=1", "/?orderBy=price", "/?tags=a&tags=b", "/", "/?limit=x")
def query_model(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(chosen: Annotated[Filter, Query()]) -> Filter:
        return chosen


@shape(
    {"method": "GET", "url": "/", "headers": {"x-lang": "de"}},
    {"method": "GET", "url": "/", "headers": {"x-lang": "en"}},
    {"method": "GET", "url": "/", "headers": {"cookie": "theme=dark; other=1"}},
    "/",
)
def header_and_cookie_values(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(x_lang: Annotated[str, Header()] = "-", theme: Annotated[str, Cookie()] = "-") -> list[str]:
        return [x_lang, theme]


@shape("/red", "/blue", "/green")
def enum_in_the_path(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/{colour}")
    @wrap()
    async def get(colour: Colour) -> Colour:
        return colour


@shape("/a/b.txt", "/a%2Fb.txt", "/%C3%BC")
def path_in_the_path(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/{name:path}")
    @wrap()
    async def get(name: str) -> str:
        return name


@shape(
    {"method": "POST", "url": "/", "json": {"a": 1, "b": 2}},
    {"method": "POST", "url": "/", "json": {"a": 1, "b": 3}},
    {"method": "POST", "url": "/", "json": {"a": "x"}},
    {"method": "POST", "url": "/", "content": b"{", "headers": {"content-type": "application/json"}},
)
def posted_body(app: FastAPI, wrap: Wrap) -> None:
    @app.post("/")
    @wrap(methods=["POST"])
    async def search(a: Annotated[int, Body()], b: Annotated[int, Body()]) -> int:
        return a * 10 + b


@shape(
    {"method": "POST", "url": "/", "data": {"a": "1"}},
    {"method": "POST", "url": "/", "data": {"a": "2"}},
)
def posted_form(app: FastAPI, wrap: Wrap) -> None:
    @app.post("/")
    @wrap(methods=["POST"])
    async def search(a: Annotated[int, Form()]) -> int:
        return a


@shape("/1", "/0")
def not_found_by_exception(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/{number}")
    @wrap()
    async def get(number: int) -> int:
        if number == 0:
            raise HTTPException(404, "no such thing", {"x-why": "zero"})
        return number


@shape("/")
def error_response(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> JSONResponse:
        return JSONResponse({"error": "teapot"}, 418)


@shape("/")
def cookie_set_by_the_endpoint(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(response: Response) -> int:
        response.set_cookie("session", "1")
        return 1


@shape("/")
def caching_said_by_the_endpoint(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get(response: Response) -> int:
        response.headers["cache-control"] = "public, max-age=30"
        response.headers["etag"] = '"own"'
        response.headers["last-modified"] = "Sat, 03 Jan 2026 00:00:00 GMT"
        return 1


@shape("/")
def large(app: FastAPI, wrap: Wrap) -> None:
    @app.get("/")
    @wrap()
    async def get() -> Response:
        return Response(b"x" * 3_000_000)


@shape("/1", "/2")
def method_of_a_class(app: FastAPI, wrap: Wrap) -> None:
    class Views:
        def __init__(self, factor: int) -> None:
            self.factor = factor
            app.get("/{number}")(wrap()(self._make()))

        def _make(self) -> Any:
            async def get(number: int) -> int:
                return number * self.factor

            return get

    Views(3)
