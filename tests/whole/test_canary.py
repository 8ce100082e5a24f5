"""A secret that travels through the whole app turns up nowhere: no log line, no answer, no key, no value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import redis
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.servers import RedisServer, Uvicorn
from tests.whole.everything import auth

CANARY = "canary-6d1f"
TARGET = "tests.whole.everything:create_app"

# Each part of a token is a secret of its own: the signature, and the claims.
TOKEN = auth.issue("ada", ttl=600, note=CANARY)
FORGED = TOKEN[:-8] + "AAAAAAAA"
SECRETS = [CANARY, *TOKEN.split(".")[1:], *FORGED.split(".")[1:]]

ORIGIN = {"Origin": "https://shop.example"}
REQUESTS = [
    ("POST", "/v1/login", {"json": {"name": "ada", "password": CANARY}}),
    ("POST", "/v1/login", {"json": {"password": CANARY}}),
    ("POST", "/v1/login", {"json": {"name": "ada", "password": [CANARY]}}),
    ("POST", "/v1/login", {"json": CANARY}),
    ("POST", "/v1/login", {"content": f'{{"password": "{CANARY}"'}),
    ("POST", "/v1/login", {"data": {"password": CANARY}}),
    ("GET", f"/v1/items/{CANARY}", {}),
    ("GET", f"/{CANARY}", {}),
    ("DELETE", f"/v1/rooms/{CANARY}", {}),
    ("GET", "/v1/boom", {"params": {"text": CANARY}}),
    ("GET", "/v1/boom", {"params": {"text": CANARY}, "headers": {"Accept": "text/html"}}),
    ("GET", "/v1/often", {"headers": {"X-Request-ID": CANARY, "X-API-Key": CANARY, "Cookie": f"a={CANARY}"}}),
    ("GET", "/v1/often", {"headers": {"User-Agent": CANARY, "Referer": f"https://a/{CANARY}"}}),
    ("GET", f"/v1/often?{CANARY}={CANARY}", {}),
    *[
        ("GET", "/v1/me", options)
        for token in (TOKEN, FORGED, CANARY)
        for options in (
            {"headers": {"Authorization": f"Bearer {token}"}},
            {"headers": {"Authorization": f"Basic {token}"}},
            {"headers": {"Cookie": f"session={token}", **ORIGIN}},
            {"headers": {"Cookie": f"session={token}", "Origin": f"https://{CANARY}.example"}},
            {"params": {"token": token}},
        )
    ],
]


@pytest.fixture
def place(fault_server: RedisServer) -> Iterator[redis.Redis]:
    """A server that writes down every command."""
    client = redis.Redis(port=fault_server.port)
    yield client
    client.close()


def _kept(place: redis.Redis) -> str:
    """All keys and values, and all scripts' arguments that the server still knows of."""
    reads: dict[Any, Any] = {
        b"string": lambda key: place.get(key),
        b"hash": lambda key: place.hgetall(key),
        b"zset": lambda key: place.zrange(key, 0, -1),
        b"set": lambda key: place.smembers(key),
        b"list": lambda key: place.lrange(key, 0, -1),
    }
    keys: Any = place.keys()
    kept = [(key, reads[place.type(key)](key)) for key in keys]
    return repr([*kept, place.execute_command("SLOWLOG", "GET", "1000")])


def _sockets(server: Uvicorn) -> list[str]:
    url = server.url.replace("http", "ws")
    seen = []
    for path, options in [
        (f"/v1/rooms/a?token={TOKEN}", {}),
        (f"/v1/rooms/a?token={FORGED}", {}),
        (f"/v1/rooms/a?other={CANARY}", {}),
        (f"/v1/nowhere?token={TOKEN}", {}),
        (f"/v1/{CANARY}", {}),
        ("/v1/rooms/a", {"subprotocols": ["bearer", TOKEN]}),
        ("/v1/rooms/a", {"subprotocols": ["bearer", quote(FORGED)]}),
        ("/v1/rooms/a", {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}),
    ]:
        try:
            with connect(url + path, **options) as socket:  # type: ignore[arg-type]  # the options of a row
                seen.append(f"{socket.response} {socket.recv(timeout=5)!r}")
        except InvalidStatus as refusal:
            answer = refusal.value.response if hasattr(refusal, "value") else refusal.response
            seen.append(f"{answer.status_code} {answer.headers} {answer.body!r}")
    return seen


def test_a_secret_turns_up_nowhere(fault_server: RedisServer, place: redis.Redis) -> None:
    place.config_set("slowlog-log-slower-than", 0)  # every command is written down
    place.config_set("slowlog-max-len", 1000)
    answers: list[str] = []
    with (
        Uvicorn(TARGET, arguments=["--factory"], environment={"REDIS_URL": fault_server.url}) as server,
        httpx2.Client(base_url=server.url, verify=False) as client,
    ):
        for method, path, options in REQUESTS:
            answer = client.request(method, path, **options)  # type: ignore[arg-type]  # the options of a row
            answers.append(f"{method} {answer.status_code} {dict(answer.headers)} {answer.text}")
        statuses = [int(each.split()[1]) for each in answers]
        answers += _sockets(server)
        kept = _kept(place)
        server.stop()
    assert {200, 401, 403, 404, 422, 500} <= set(statuses)
    assert "prodkit:" in kept
    for secret in SECRETS:
        assert [each for each in answers if secret in each] == []
        assert secret not in kept
        assert [line for line in server.output.splitlines() if secret in line] == []
    records = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    assert len(records) == len(answers)
