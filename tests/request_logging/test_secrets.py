"""Nothing that a client sent is written unless it was asked for by name, and nothing forges a line."""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Cookie, FastAPI, Header, Query, Request, Response, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel, SecretStr, field_validator
from starlette.applications import Starlette
from starlette.routing import Route

from fastapi_prodkit import RequestLoggingMiddleware, bind
from fastapi_prodkit.request_logging import StreamSink, console, ecs, gcp, logfmt, otel

from .lines import Lines

CANARY = "canary-4f1d"


class Login(BaseModel):
    name: str
    password: SecretStr

    @field_validator("name")
    @classmethod
    def refuse(cls, name: str) -> str:
        raise ValueError(f"{name} is refused")


def _app(lines: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, **options)

    @app.get("/things/{thing}")
    async def thing(
        thing: str,
        token: Annotated[str, Query()] = "",
        session: Annotated[str, Cookie()] = "",
        authorization: Annotated[str, Header()] = "",
    ) -> str:
        return "ok"

    @app.post("/login")
    async def login(body: Login) -> str:
        return "ok"

    @app.post("/error")
    async def error(body: dict[str, Any]) -> None:
        raise ValueError(f"cannot do {body}")

    @app.post("/secret")
    async def secret(body: dict[str, Any]) -> None:
        bind(password=SecretStr(body["password"]))

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await websocket.close(1000, CANARY)

    return app


def _plant(client: TestClient) -> None:
    headers = {"authorization": f"Bearer {CANARY}", "x-anything": CANARY, "referer": CANARY}
    client.get(f"/things/{CANARY}", params={"token": CANARY}, headers=headers, cookies={"session": CANARY})
    client.get(f"/{CANARY}/nowhere?{CANARY}")
    client.post("/login", json={"name": CANARY, "password": CANARY})
    client.post("/login", json={"password": CANARY})
    client.post("/login", content=CANARY)
    client.post("/error", json={"a": CANARY})
    client.post("/secret", json={"password": CANARY})
    with client.websocket_connect(f"/socket?token={CANARY}", subprotocols=[CANARY]) as websocket:
        websocket.send_text(CANARY)
        websocket.receive()


@pytest.mark.filterwarnings("ignore:Setting per-request cookies:DeprecationWarning")
def test_a_canary_planted_everywhere_is_in_no_record() -> None:
    lines = Lines()
    with TestClient(_app(lines), raise_server_exceptions=False) as client:
        _plant(client)
    assert len(lines.raw) == 8
    assert CANARY.encode() not in b"".join(lines.raw)


def test_headers_and_query_parameters_are_written_if_they_are_named() -> None:
    lines = Lines()
    client = TestClient(_app(lines, headers=["User-Agent"], query=["page"], path=True))
    client.get("/things/a%20b?page=2&token=secret", headers={"user-agent": "me", "authorization": "secret"})
    record = lines.only
    assert record["http.request.header.user-agent"] == "me"
    assert record["url.query"] == {"page": "2"}
    assert record["url.path"] == "/things/a%20b"
    assert b"secret" not in lines.raw[0]


def test_no_number_of_query_parameters_keeps_a_request_out_of_the_log() -> None:
    lines = Lines()
    TestClient(_app(lines, query=["page"])).get("/things/a?page=2" + "&x=1" * 2000)
    assert lines.only["url.query"] == {"page": "2"}


FORMATS = [otel, ecs, gcp, logfmt, console]


def _nasty(chance: random.Random, size: int) -> bytes:
    """Bytes that like to break lines: controls, quotes, escapes, terminal codes, half UTF-8."""
    pieces = [
        b"\n",
        b"\r\n",
        b"\x1b[31m",
        b"\x00",
        b"\x7f",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xff",
        b'"}',
        b"\\",
    ]
    pieces += [b"=", b" ", b"\t", b"a", b"%0a", b"%1b", b"\xc2\x9b", b"{", b"${jndi:x}", b"\xf0\x9f\x98\x80"]
    return b"".join(chance.choice(pieces) for _ in range(chance.randrange(size)))


@pytest.fixture(scope="module")
def nasty_scopes() -> list[dict[str, Any]]:
    chance = random.Random(5)
    return [
        {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/" + _nasty(chance, 12).decode("utf-8", "replace"),
            "raw_path": b"/" + _nasty(chance, 12) if chance.random() < 0.5 else None,
            "query_string": b"page=" + _nasty(chance, 6),
            "client": (_nasty(chance, 3).decode("latin-1") or "10.0.0.1", 1),
            "headers": [
                (b"user-agent", _nasty(chance, 10)),
                (b"x-request-id", _nasty(chance, 8)),
                (b"traceparent", _nasty(chance, 8)),
                (b"x-forwarded-for", _nasty(chance, 8)),
            ],
        }
        for _ in range(10_000)
    ]


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.__name__)
async def test_ten_thousand_hostile_requests_are_as_many_lines(
    format: Any, nasty_scopes: list[dict[str, Any]]
) -> None:
    lines = Lines()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bind(user=scope["path"], **{scope["path"][:9]: scope["client"][0]})
        await _answer(scope, receive, send)

    middleware = RequestLoggingMiddleware(
        app, sink=lines, format=format, headers=["user-agent"], query=["page"], path=True, trusted_proxies=1
    )
    for scope in nasty_scopes:
        await middleware(dict(scope), _receive, _send)
    _assert_sound(lines, len(nasty_scopes))


async def test_hostile_requests_are_as_many_lines_on_the_quick_way(
    nasty_scopes: list[dict[str, Any]],
) -> None:
    """Nothing is bound or asked for and a route is matched: the default line is filled into its template."""
    lines = Lines()

    async def anything(request: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route("/{anything:path}", anything)])
    middleware = RequestLoggingMiddleware(app, sink=lines, trusted_proxies=1)
    for number, scope in enumerate(nasty_scopes[:2000]):
        odd = {"scheme": scope["path"], "http_version": scope["path"][:2]} if number % 3 == 0 else {}
        await middleware({**scope, **odd}, _receive, _send)
    _assert_sound(lines, 2000)
    assert sum(record["http.route"] == "/{anything}" for record in lines.records) > 500


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _receive() -> Any:
    return {"type": "http.request"}


async def _send(message: Any) -> None: ...


def _assert_sound(lines: Lines, number: int) -> None:
    assert len(lines.raw) == number
    for line in lines.raw:
        text = line.decode("utf-8")
        assert text.splitlines(keepends=True) == [text], text
        assert all(ord(character) >= 32 and ord(character) != 127 for character in text[:-1]), text
        if text.startswith("{"):
            assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("value", "believed"),
    [
        ("8f7e-1", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ('x" injected', False),
        ("x injected", False),
        ("", False),
        ("\u00e9", False),
    ],
)
def test_an_inbound_id_is_believed_from_a_trusted_peer_if_well_formed(value: str, believed: bool) -> None:
    lines = Lines()
    client = TestClient(_app(lines, trusted_proxies=["10.0.0.0/8"]), client=("10.1.1.1", 1))
    response = client.get("/things/a", headers=[(b"x-request-id", value.encode("utf-8"))])
    assert (lines.only["request_id"] == value) is believed
    assert (response.headers["x-request-id"] == value) is believed


def test_an_inbound_id_of_anybody_else_is_not_believed() -> None:
    lines = Lines()
    client = TestClient(_app(lines, trusted_proxies=["10.0.0.0/8"]), client=("203.0.113.9", 1))
    client.get("/things/a", headers={"x-request-id": "forged", "x-forwarded-for": "6.6.6.6"})
    assert lines.only["request_id"] != "forged"
    assert lines.only["client.address"] == "203.0.113.9"


def test_the_client_is_found_behind_trusted_proxies() -> None:
    lines = Lines()
    client = TestClient(_app(lines, trusted_proxies=["10.0.0.0/8"]), client=("10.1.1.1", 1))
    client.get("/things/a", headers={"x-forwarded-for": "6.6.6.6, 203.0.113.9"})
    assert lines.only["client.address"] == "203.0.113.9"


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
    ],
)
def test_a_valid_traceparent_is_continued(traceparent: str, valid: bool) -> None:
    lines = Lines()
    TestClient(_app(lines)).get("/things/a", headers={"traceparent": traceparent})
    record = lines.only
    assert (record["trace_id"] == TRACE) is valid
    assert record.get("parent_span_id") == (PARENT if valid else None)
    assert record["span_id"] != PARENT


@pytest.fixture
def uvicorn_error() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)


def test_the_server_s_line_of_a_websocket_is_muted_for_its_query(uvicorn_error: io.StringIO) -> None:
    logger = logging.getLogger("uvicorn.error")
    with TestClient(_app(StreamSink(io.BytesIO()))):
        logger.info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", f"/socket?token={CANARY}")
        logger.info("Shutting down")
    assert uvicorn_error.getvalue() == "Shutting down\n"
