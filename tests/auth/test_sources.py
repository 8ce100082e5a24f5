"""Where a token is looked for, and from where it must not be taken."""

import hashlib
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Query, WebSocket
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_prodkit import Cache, CacheMiddleware, Claims, Hub, JWTAuth, MemoryBackend
from fastapi_prodkit.auth import TokenSource, bearer_header, cookie, query, subprotocol

from ..websocket.peers import serving

SECRET = "a-secret-of-the-tests-0123456789abcdefghij"
ORIGIN = "https://shop.example"


def client_of(*sources: TokenSource) -> tuple[TestClient, str]:
    auth = JWTAuth(SECRET, algorithms=["HS256"], sources=sources)
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def http(claims: Annotated[Claims, Depends(auth)], page: Annotated[int, Query()] = 1) -> list[Any]:
        return [claims.subject, page]

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None:
        await websocket.accept(subprotocol=websocket.query_params.get("speak"))
        await websocket.send_text(claims.subject)

    return TestClient(app), auth.issue("ada", ttl=60)


def refused(client: TestClient, **options: Any) -> int:
    with pytest.raises(WebSocketDenialResponse) as refusal, client.websocket_connect("/ws", **options):
        pass
    return refusal.value.status_code


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(scheme: str) -> None:
    client, token = client_of(bearer_header)
    assert client.get("/", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_other_credentials_are_no_bearer_token() -> None:
    client, token = client_of(bearer_header)
    for value in (f"Basic {token}", "Bearer", "Bearer ", token, f"Bearer{token}", f"Bearer {token} {token}"):
        assert client.get("/", headers={"Authorization": value}).status_code == 401


def test_two_authorization_headers_are_none() -> None:
    client, token = client_of(bearer_header)
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert client.get("/", headers=twice).status_code == 401


def test_a_browser_offers_its_token_as_a_subprotocol() -> None:
    client, token = client_of(subprotocol)
    with client.websocket_connect("/ws?speak=bearer", subprotocols=["bearer", token]) as websocket:
        assert websocket.receive_text() == "ada"
        assert websocket.accepted_subprotocol == "bearer"
    for offered in ([], ["bearer"], [token], [token, "bearer"], ["chat", token]):
        assert refused(client, subprotocols=offered) == 401


def test_a_subprotocol_is_no_token_of_a_plain_request() -> None:
    client, token = client_of(subprotocol)
    response = client.get("/", headers={"Sec-WebSocket-Protocol": f"bearer, {token}"})
    assert response.status_code == 401


def test_a_cookie_opens_a_socket_from_an_allowed_origin_alone() -> None:
    client, token = client_of(cookie("session", allowed_origins=[ORIGIN]))
    client.cookies.set("session", token)
    with client.websocket_connect("/ws", headers={"Origin": ORIGIN}) as websocket:
        assert websocket.receive_text() == "ada"
    for origin in ("https://evil.example", "null", "http://shop.example", f"{ORIGIN}.evil.example", ""):
        assert refused(client, headers={"Origin": origin}) == 403
    assert refused(client) == 403


def test_a_cookie_cannot_be_used_by_another_page_to_change_something() -> None:
    client, token = client_of(cookie("session", allowed_origins=[ORIGIN]))
    client.cookies.set("session", token)
    assert client.get("/").status_code == 200
    assert client.post("/").status_code == 403
    assert client.post("/", headers={"Origin": ORIGIN}).status_code == 200
    assert client.post("/", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.get("/", headers={"Origin": "https://evil.example"}).status_code == 403


def test_without_the_cookie_the_origin_does_not_matter() -> None:
    client, _ = client_of(cookie("session", allowed_origins=[ORIGIN]))
    assert client.post("/", headers={"Origin": "https://evil.example"}).status_code == 401


def test_the_first_source_that_finds_a_token_decides() -> None:
    client, token = client_of(bearer_header, query())
    bad = {"Authorization": "Bearer a.b.c"}
    assert client.get("/", params={"access_token": token}).status_code == 200
    assert client.get("/", params={"access_token": token}, headers=bad).status_code == 401


def test_other_parameters_beside_a_token_are_left_alone() -> None:
    client, token = client_of(query("t"))
    assert client.get("/", params={"page": 7, "t": token}).json() == ["ada", 7]
    assert client.get("/", params={"at": token}).status_code == 401
    assert client.get("/", params=[("t", token), ("t", token)]).status_code == 401


def test_a_token_in_the_query_is_cut_out_of_the_scope() -> None:
    source = query()
    scope = {"type": "http", "headers": [], "query_string": b"a=%20&access%5Ftoken=secret&b=2"}
    assert source(HTTPConnection(scope)) == "secret"
    digest = hashlib.sha256(b"secret").hexdigest()[:32].encode()
    assert scope["query_string"] == b"a=%20&access_token=sha256-" + digest + b"&b=2"
    assert source(HTTPConnection(scope)) == "secret"
    assert "secret" not in repr(scope)


async def test_a_token_in_the_query_is_in_no_line_of_uvicorn(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    auth = JWTAuth(SECRET, algorithms=["HS256"], sources=[query()])
    hub = Hub(MemoryBackend().bus)
    app = FastAPI()

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None:
        async with hub.join(websocket, "a") as member:
            await member.send(claims.subject)

    token = auth.issue("ada", ttl=60)
    async with hub, serving(hub, app) as server:
        client = await server.connect(f"/ws?access_token={token}")
        assert await client.json() == "ada"
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")]
    assert any("/ws?access_token=sha256-" in line for line in lines)
    assert not any(token in line for line in lines)


def test_a_query_parameter_may_have_any_name() -> None:
    client, token = client_of(query("schlüssel & €"))
    assert client.get("/", params={"schlüssel & €": token, "page": 7}).json() == ["ada", 7]


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example", "http://localhost:8000", "http://[::1]:3000", "https://xn--9ca.example"],
)
def test_an_origin_is_compared_as_browsers_send_it(origin: str) -> None:
    client, token = client_of(cookie("session", allowed_origins=[origin]))
    client.cookies.set("session", token)
    assert client.post("/", headers={"Origin": origin}).status_code == 200


def test_a_source_of_your_own_is_a_function() -> None:
    def from_header(connection: HTTPConnection) -> str | None:
        return connection.headers.get("x-token")

    client, token = client_of(from_header)
    assert client.get("/", headers={"X-Token": token}).status_code == 200


@pytest.mark.parametrize(
    ("source", "send"),
    [
        (bearer_header, lambda token: {"headers": {"Authorization": f"Bearer {token}"}}),
        (
            cookie("session", allowed_origins=[ORIGIN]),
            lambda token: {"headers": {"Cookie": f"session={token}"}},
        ),
        (query(), lambda token: {"params": {"access_token": token}}),
        (lambda connection: connection.headers.get("x-token"), lambda token: {"headers": {"X-Token": token}}),
    ],
    ids=["header", "cookie", "query", "own"],
)
def test_a_cache_gives_nobody_the_answer_of_another(
    source: TokenSource, send: Callable[[str], dict[str, Any]]
) -> None:
    auth = JWTAuth(SECRET, algorithms=["HS256"], sources=[source])
    cache = Cache(MemoryBackend().store)
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/me")
    @cache(ttl=60)
    async def me(claims: Annotated[Claims, Depends(auth)]) -> str:
        calls.append(claims.subject)
        return claims.subject

    client = TestClient(app)
    ada, bob = auth.issue("ada", ttl=60), auth.issue("bob", ttl=60)
    for _ in range(2):
        assert client.get("/me", **send(ada)).json() == "ada"
        assert client.get("/me", **send(bob)).json() == "bob"
        assert client.get("/me").status_code == 401
    assert calls == ["ada", "bob"]
