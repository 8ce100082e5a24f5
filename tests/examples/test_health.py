from __future__ import annotations

from fastapi.testclient import TestClient

from examples.health import create_app
from tests.servers import RedisServer


def test_readiness_follows_the_cache_and_liveness_does_not(fault_server: RedisServer) -> None:
    with TestClient(create_app(fault_server.url)) as client:
        assert client.get("/health/ready").json() == {"status": "pass", "checks": {"cache": "pass"}}
        fault_server.kill()
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        assert client.get("/").json() == "open"
