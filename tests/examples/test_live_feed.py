from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from examples.live_feed import create_app
from fastapi_prodkit import JWTAuth


@pytest.mark.parametrize("place", ["memory", "redis"])
def test_a_price_is_known_on_arrival_and_heard_when_it_changes(
    place: str, request: pytest.FixtureRequest
) -> None:
    url = "memory://" if place == "memory" else request.getfixturevalue("redis_url")
    auth = JWTAuth("a-secret-of-the-tests-0123456789abcdefghij", algorithms=["HS256"])
    seller = {"Authorization": f"Bearer {auth.issue('shop', ttl=60, scopes=['prices:write'])}"}
    watcher = {"Authorization": f"Bearer {auth.issue('ada', ttl=60)}"}
    with TestClient(create_app(auth, url)) as client:
        assert client.put("/products/tea/price?cents=240", headers=seller).status_code == 200
        with client.websocket_connect("/products/tea/feed", headers=watcher) as feed:
            assert feed.receive_json() == {"product": "tea", "cents": 240}
            assert client.put("/products/tea/price?cents=250", headers=seller).status_code == 200
            assert feed.receive_json() == {"product": "tea", "cents": 250}
        assert client.put("/products/tea/price?cents=1", headers=watcher).status_code == 403
