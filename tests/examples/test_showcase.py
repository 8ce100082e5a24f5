"""The shop, as its customers use it: over real sockets, in memory and on a real Redis-protocol server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
from collections.abc import Iterator

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from examples.showcase.app import SECRET
from fastapi_prodkit import JWTAuth
from tests.servers import ROOT, RedisServer, Uvicorn

AUTH = JWTAuth(SECRET, algorithms=["HS256"])
TARGET = "examples.showcase.app:create_app"


def _open(url: str) -> Uvicorn:
    return Uvicorn(TARGET, arguments=["--factory"], environment={"REDIS_URL": url})


@pytest.fixture(params=["memory", "redis"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Uvicorn]:
    if request.param == "memory":
        with _open("memory://") as server:
            yield server
        return
    place = RedisServer().start()
    with _open(place.url) as server:
        yield server
    place.close()


@pytest.fixture
def client(server: Uvicorn) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url) as client:
        yield client


def _as(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {AUTH.issue(name, ttl=60)}"}


def test_an_item_is_cached_until_an_order_changes_it(client: httpx2.Client) -> None:
    first, second = client.get("/items/1"), client.get("/items/1")
    assert "hit" not in first.headers["cache-status"]
    assert "hit" in second.headers["cache-status"]
    assert second.content == first.content
    ordered = client.post("/orders", json={"item_id": 1, "quantity": 2}, headers=_as("ada"))
    assert ordered.status_code == 202
    assert client.get("/items/1").json()["stock"] == first.json()["stock"] - 2


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/items/99", 404, "no-such-item"),
        ("GET", "/items/one", 422, "about:blank"),
        ("GET", "/nowhere", 404, "about:blank"),
        ("DELETE", "/items", 405, "about:blank"),
        ("POST", "/orders", 401, "about:blank"),
    ],
)
def test_every_error_is_a_problem_document(
    client: httpx2.Client, method: str, path: str, status: int, kind: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["type"].endswith(kind)
    assert answer.headers["x-request-id"]


def test_the_contract_names_the_problems_and_their_pages_are_served(client: httpx2.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/orders"]["post"]
    assert {"202", "401", "404", "409", "422"} <= operation["responses"].keys()
    kind = client.get("/items/99").json()["type"]
    assert client.get(kind).status_code == 200


def test_more_than_there_is_cannot_be_ordered(client: httpx2.Client) -> None:
    answer = client.post("/orders", json={"item_id": 2, "quantity": 100}, headers=_as("ada"))
    assert answer.status_code == 409
    assert answer.json()["left"] == 5


def test_passwords_cannot_be_guessed_at_leisure(client: httpx2.Client) -> None:
    right = client.post("/login", json={"name": "ada", "password": "wonderland"})
    assert asyncio.run(AUTH.verify(right.json()["access_token"])).subject == "ada"
    guesses = [
        client.post("/login", json={"name": "ada", "password": str(number)}).status_code
        for number in range(12)
    ]
    assert guesses == [401] * 10 + [429] * 2


def test_search_says_what_is_left_and_when_to_come_back(client: httpx2.Client) -> None:
    answers = [client.get("/search", params={"q": "a"}, headers=_as("ada")) for _ in range(25)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].json()["violated-policies"]
    assert all("ratelimit" in answer.headers for answer in answers)
    assert client.get("/search", params={"q": "a"}, headers=_as("grace")).status_code == 200


def test_an_order_is_confirmed_to_its_customer_and_nobody_else(
    client: httpx2.Client, server: Uvicorn
) -> None:
    url = server.url.replace("http", "ws") + "/orders/live"
    with (
        connect(url, additional_headers=_as("ada")) as feed,
        connect(url, additional_headers=_as("grace")) as other,
    ):
        client.post("/orders", json={"item_id": 3}, headers=_as("ada"))
        order = json.loads(feed.recv(timeout=5))
        with pytest.raises(TimeoutError):
            other.recv(timeout=0.2)
    assert (order["customer"], order["status"]) == ("ada", "confirmed")


def test_the_feed_is_refused_before_it_opens(server: Uvicorn) -> None:
    with pytest.raises(InvalidStatus) as refusal, connect(server.url.replace("http", "ws") + "/orders/live"):
        pass
    assert refusal.value.response.status_code == 401
    assert refusal.value.response.headers["content-type"] == "application/problem+json"


def test_the_catalogue_can_be_exported(client: httpx2.Client) -> None:
    lines = client.get("/export/items.ndjson").text.splitlines()
    rows = list(csv.DictReader(io.StringIO(client.get("/export/items.csv").text)))
    assert [json.loads(line)["name"] for line in lines] == [row["name"] for row in rows]


def test_it_is_alive_and_ready(client: httpx2.Client) -> None:
    assert [client.get(f"/health/{each}").status_code for each in ("live", "ready")] == [200, 200]


def test_it_goes_on_when_its_redis_is_killed(fault_server: RedisServer) -> None:
    with _open(fault_server.url) as server, httpx2.Client(base_url=server.url) as client:
        assert client.get("/items/1").status_code == 200
        fault_server.kill()
        paths = ("/items/1", "/items", "/search?q=a")
        answers = [client.get(path, headers=_as("ada")) for path in paths for _ in range(5)]
        answers.append(client.post("/orders", json={"item_id": 4}, headers=_as("ada")))
    assert {answer.status_code for answer in answers} == {200, 202}


def test_it_writes_one_line_per_request_and_ends_cleanly() -> None:
    with _open("memory://") as server:
        with httpx2.Client(base_url=server.url) as client:
            ids = [client.get(path).headers["x-request-id"] for path in ("/items/1", "/nowhere", "/items")]
        assert server.stop(number=signal.SIGINT) in (0, -signal.SIGINT)
    records = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    assert [record["request_id"] for record in records] == ids
    assert records[0]["http.route"] == "/items/{item_id}"
    assert "Traceback" not in server.output


def test_what_the_demo_says_to_try_is_a_script() -> None:
    from examples.showcase.__main__ import TRY

    script = TRY.format(place="in memory")
    commands = [line for line in script.splitlines() if line.startswith("  ")]
    checked = subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0
