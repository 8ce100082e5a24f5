from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from examples.cached_route import create_app


@pytest.mark.parametrize("place", ["memory", "redis"])
def test_a_change_is_seen_at_once(place: str, redis_url: str) -> None:
    with TestClient(create_app("memory://" if place == "memory" else redis_url)) as client:
        notes = [client.get("/items").headers["cache-status"] for _ in range(2)]
        assert notes[0] == "prodkit; fwd=miss; stored"
        assert notes[1].startswith("prodkit; hit")
        client.get("/items/3")
        etag = client.get("/items/3").headers["etag"]
        assert client.get("/items/3", headers={"if-none-match": etag}).status_code == 304
        client.put("/items/3", json={"id": 3, "name": "Better tea", "price": 4})
        assert client.get("/items/3", headers={"if-none-match": etag}).json()["name"] == "Better tea"
        assert client.get("/items").json()[2]["name"] == "Better tea"
        assert client.get("/items/999").status_code == 404
        assert [client.get("/rates/EUR").json() for _ in range(2)] == [0.9, 0.9]
