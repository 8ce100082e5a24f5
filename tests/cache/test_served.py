"""Through a real server and a real client."""

from __future__ import annotations

import httpx2
import pytest

from ..servers import Uvicorn


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_hits_304_and_head_over_the_wire(http: str) -> None:
    arguments = ["--factory", "--http", http]
    with (
        Uvicorn("examples.cached_route:create_app", arguments=arguments) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        miss = client.get("/items")
        for _ in range(3):
            hit = client.get("/items")
            assert hit.content == miss.content
            assert hit.headers["cache-status"].startswith("prodkit; hit")
            unchanged = client.get("/items", headers={"if-none-match": hit.headers["etag"]})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert client.head("/items").status_code == 405
        assert client.put("/items/1", json={"id": 1, "name": "x", "price": 1}).status_code == 200
        assert client.get("/items").json()[0]["name"] == "x"
        server.stop()
    assert "Traceback" not in server.output
