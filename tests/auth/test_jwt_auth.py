"""What a client meets: who is let in, who is refused, and how."""

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Security, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_prodkit import Claims, JWTAuth, ProblemMiddleware, RequestLoggingMiddleware

from .verifying import verified

SECRET = "a-secret-of-the-tests-0123456789abcdefghij"


def shop(auth: JWTAuth) -> TestClient:
    app = FastAPI()

    @app.get("/me")
    async def me(claims: Annotated[Claims, Depends(auth)]) -> str:
        return claims.subject

    @app.post("/orders", dependencies=[Depends(auth.requires("orders:write"))])
    async def order() -> str:
        return "ordered"

    @app.get("/native")
    async def native(claims: Annotated[Claims, Security(auth, scopes=["orders:read"])]) -> str:
        return claims.subject

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None:
        await websocket.accept()
        await websocket.send_text(claims.subject)
        await websocket.close()

    @app.websocket("/admin-feed")
    async def admin(websocket: WebSocket, claims: Annotated[Claims, Depends(auth.requires("admin"))]) -> None:
        await websocket.accept()
        await websocket.close()

    return TestClient(app)


@pytest.fixture
def auth() -> JWTAuth:
    return JWTAuth(SECRET, algorithms=["HS256"])


@pytest.fixture
def client(auth: JWTAuth) -> TestClient:
    return shop(auth)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_valid_token_lets_in(client: TestClient, auth: JWTAuth) -> None:
    response = client.get("/me", headers=bearer(auth.issue("ada", ttl=60)))
    assert (response.status_code, response.json()) == (200, "ada")


def test_without_a_token_the_challenge_carries_no_error(client: TestClient) -> None:
    response = client.get("/me")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="api"'


def test_an_invalid_token_is_named_so(client: TestClient) -> None:
    response = client.get("/me", headers=bearer("a.b.c"))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_missing_scope_is_a_403_that_names_it(client: TestClient, auth: JWTAuth) -> None:
    token = auth.issue("ada", ttl=60, scopes=["orders:read"])
    response = client.post("/orders", headers=bearer(token))
    assert response.status_code == 403
    assert response.headers["www-authenticate"] == (
        'Bearer realm="api", error="insufficient_scope", scope="orders:write", '
        'error_description="The token lacks a scope: orders:write."'
    )


def test_a_scope_that_is_there_lets_in(client: TestClient, auth: JWTAuth) -> None:
    token = auth.issue("ada", ttl=60, scopes=["orders:read", "orders:write"])
    assert client.post("/orders", headers=bearer(token)).json() == "ordered"


def test_the_frameworks_own_security_scopes_are_held_too(client: TestClient, auth: JWTAuth) -> None:
    assert client.get("/native", headers=bearer(auth.issue("ada", ttl=60))).status_code == 403
    token = auth.issue("ada", ttl=60, scopes=["orders:read"])
    assert client.get("/native", headers=bearer(token)).json() == "ada"


def test_a_websocket_is_let_in_with_the_same_instance(client: TestClient, auth: JWTAuth) -> None:
    with client.websocket_connect("/feed", headers=bearer(auth.issue("ada", ttl=60))) as websocket:
        assert websocket.receive_text() == "ada"


@pytest.mark.parametrize(("path", "status"), [("/feed", 401), ("/admin-feed", 403)])
def test_a_websocket_is_refused_before_it_is_accepted(
    client: TestClient, auth: JWTAuth, path: str, status: int
) -> None:
    headers = bearer(auth.issue("ada", ttl=60)) if status == 403 else {}
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path, headers=headers):
        pass
    assert refused.value.status_code == status
    assert refused.value.headers["www-authenticate"].startswith("Bearer ")


def test_an_override_of_the_instance_holds_for_its_scopes_too(client: TestClient, auth: JWTAuth) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    app.dependency_overrides[auth] = lambda: Claims("eve", frozenset({"orders:write"}))
    assert client.get("/me").json() == "eve"
    assert client.post("/orders").json() == "ordered"
    app.dependency_overrides[auth] = lambda: Claims("eve")
    assert client.post("/orders").status_code == 403


def test_the_document_shows_the_scheme_and_the_scopes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"] == {
        "JWT": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    assert document["paths"]["/me"]["get"]["security"] == [{"JWT": []}]
    assert document["paths"]["/orders"]["post"]["security"] == [{"JWT": ["orders:write"]}]


def test_claims_can_be_answered_as_they_are(auth: JWTAuth) -> None:
    app = FastAPI()

    @app.get("/")
    async def endpoint(claims: Annotated[Claims, Depends(auth)]) -> Claims:
        return claims

    response = TestClient(app).get("/", headers=bearer(auth.issue("ada", ttl=60, team="blue")))
    assert response.json()["subject"] == "ada"
    assert response.json()["raw"]["team"] == "blue"


def test_claims_cannot_be_changed(auth: JWTAuth) -> None:
    claims = verified(auth, auth.issue("ada", ttl=60))
    with pytest.raises(AttributeError):
        claims.subject = "eve"  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        claims.raw["sub"] = "eve"  # type: ignore[index]  # that is the point


def test_a_refused_websocket_gets_the_problem_document(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RequestLoggingMiddleware)
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/feed"):
        pass
    assert refused.value.status_code == 401
    assert refused.value.headers["content-type"] == "application/problem+json"
    assert refused.value.headers["www-authenticate"] == 'Bearer realm="api"'
    assert refused.value.json()["detail"] == "A bearer token is needed."
