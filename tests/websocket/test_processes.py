"""Real uvicorn processes, real clients, real signals."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..servers import Uvicorn
from .peers import Client
from .served import auth

TARGET = "tests.websocket.served:create_app"


def url(server: Uvicorn, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def bearer(subject: str, ttl: float = 60) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {auth.issue(subject, ttl=ttl)}"}}


@pytest.fixture
def two(redis_url: str) -> Iterator[list[Uvicorn]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Uvicorn(TARGET, environment={"REDIS_URL": redis_url}, arguments=["--factory", "--loop", loop])
            )
            for loop in ("asyncio", "uvloop")
        ]


async def test_two_processes_on_one_redis_are_one_room(two: list[Uvicorn]) -> None:
    async with (
        connect(url(two[0], "/rooms/a"), **bearer("ada")) as first,
        connect(url(two[1], "/rooms/a"), **bearer("bob")) as second,
        connect(url(two[1], "/rooms/b"), **bearer("eve")) as elsewhere,
    ):
        ada, bob, eve = Client(first), Client(second), Client(elsewhere)
        await ada.send("hello")
        assert [await ada.json(), await bob.json()] == [["ada", "hello"]] * 2
        await bob.send("hi")
        assert [await ada.json(), await bob.json()] == [["bob", "hi"]] * 2
        await eve.send("alone")
        assert await eve.json() == ["eve", "alone"]


async def test_a_stranger_is_refused_over_http_and_an_expired_token_over_the_socket(
    two: list[Uvicorn],
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url(two[0], "/rooms/a"))
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["www-authenticate"] == 'Bearer realm="api"'
    assert b"A bearer token is needed." in (refused.value.response.body or b"")
    token = auth.issue("ada", ttl=1)
    async with connect(url(two[0], "/rooms/a"), subprotocols=["bearer", token]) as connection:  # type: ignore[list-item]  # websockets has a NewType for them
        assert connection.subprotocol == "bearer"
        assert await Client(connection).closed() == (3000, "The token has expired.")
    two[0].stop()
    assert token not in two[0].output


def until_stalled(server: Uvicorn) -> None:
    """Wait until every buffer on the way is full."""
    before, now = -1, 0
    while now == 0 or now != before:
        before = now
        time.sleep(0.3)
        now = int(httpx2.get(f"{server.url}/poured").text)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_sigterm_ends_it_promptly_whatever_clients_and_endpoints_do(loop: str) -> None:
    with Uvicorn(TARGET, arguments=["--factory", "--loop", loop]) as server:
        async with (
            connect(url(server, "/rooms/a"), **bearer("ada")) as idle,
            connect(url(server, "/deaf")) as deaf,
            connect(url(server, "/pour"), max_queue=None, compression=None) as stalled,
        ):
            stalled.transport.pause_reading()
            await asyncio.to_thread(until_stalled, server)
            began = time.monotonic()
            code = await asyncio.to_thread(server.stop)
            took = time.monotonic() - began
            stalled.transport.resume_reading()
            assert await Client(idle).closed() == (1012, "")
            assert await Client(deaf).closed() == (1012, "")
    assert took < 10
    assert "closed in order" in server.output
    assert "Traceback" not in server.output
    assert code in (0, -15)
