from __future__ import annotations

from starlette.testclient import TestClient

from examples.jwt_auth import create_app


def test_log_in_and_be_known() -> None:
    client = TestClient(create_app())
    assert client.post("/login", json={"name": "ada", "password": "wrong"}).status_code == 401
    assert client.post("/login", json={"name": "eve", "password": ""}).status_code == 401
    ada, bob = (
        {"Authorization": f"Bearer {client.post('/login', json={'name': name, 'password': word}).json()}"}
        for name, word in (("ada", "analytical"), ("bob", "builder"))
    )
    assert client.get("/me", headers=bob).json()["subject"] == "bob"
    assert client.post("/orders", headers=ada).json() == "an order of ada"
    assert client.post("/orders", headers=bob).status_code == 403
    with client.websocket_connect(
        "/hello", subprotocols=["bearer", ada["Authorization"].split()[1]]
    ) as websocket:
        assert websocket.receive_text() == "hello ada"
        assert websocket.accepted_subprotocol == "bearer"
