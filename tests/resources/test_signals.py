"""SIGTERM: first not ready, then the server's own shutdown."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Resources
from tests.servers import Uvicorn


@pytest.fixture
def server_signals() -> Iterator[list[int]]:
    """Handlers such as a server installs, in place of the ones of the test process."""
    received: list[int] = []

    def handle_exit(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_a_signal_makes_the_app_not_ready_and_reaches_the_server(server_signals: list[int]) -> None:
    resources = Resources()
    async with resources(FastAPI()):
        signal.raise_signal(signal.SIGTERM)
        assert server_signals == [signal.SIGTERM]
        await asyncio.sleep(0)
        assert not resources.is_ready


async def test_with_notice_the_server_hears_later_and_a_second_signal_at_once(
    server_signals: list[int],
) -> None:
    resources = Resources(notice=0.05)
    async with resources(FastAPI()):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        assert (resources.is_ready, server_signals) == (False, [])
        signal.raise_signal(signal.SIGINT)
        assert server_signals == [signal.SIGINT]
        while len(server_signals) < 2:
            await asyncio.sleep(0.01)
        assert server_signals == [signal.SIGINT, signal.SIGTERM]


async def test_the_handlers_of_the_server_are_put_back(server_signals: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with Resources()(FastAPI()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_handler_that_someone_else_put_on_top_stays(server_signals: list[int]) -> None:
    def theirs(number: int, frame: FrameType | None) -> None: ...

    async with Resources()(FastAPI()):
        signal.signal(signal.SIGTERM, theirs)
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_a_handler_on_top_that_passes_signals_on_reaches_the_server_after_the_app_has_ended(
    server_signals: list[int],
) -> None:
    async def run() -> None:
        async with Resources(notice=60)(FastAPI()):
            below = signal.getsignal(signal.SIGTERM)
            assert callable(below)
            signal.signal(signal.SIGTERM, lambda number, frame: below(number, frame))

    asyncio.run(run())
    signal.raise_signal(signal.SIGTERM)
    assert server_signals == [signal.SIGTERM]


async def test_a_signal_that_nobody_handles_keeps_its_default() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        async with Resources()(FastAPI()):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_than_the_main_one_signals_are_left_alone(server_signals: list[int]) -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    async def run() -> None:
        async with Resources()(FastAPI()):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    assert inside == [before]


def test_under_uvicorn_readiness_flips_while_requests_are_still_answered() -> None:
    with Uvicorn("tests.resources.app:app") as server, httpx2.Client(base_url=server.url) as client:
        assert client.get("/health/ready").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        statuses = {client.get("/health/ready").status_code for _ in range(20)}
        assert 503 in statuses
        assert client.get("/health/live").status_code == 200
        server.stop()
        order = [line for line in server.output.splitlines() if line.startswith("resource")]
        assert order == ["resource opened", "resource closed"]
        _, _, shutdown = server.output.partition("Waiting for application shutdown")
        assert "resource closed" in shutdown


def test_under_uvicorn_a_resource_that_cannot_start_stops_the_server_with_its_name() -> None:
    with pytest.raises(
        RuntimeError, match=r"ended with 3\n(.|\n)*the resource slow did not start within 0\.1 s"
    ):
        Uvicorn("tests.resources.app:app_that_cannot_start")
