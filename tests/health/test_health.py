from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import ConfigurationError, Health, ProblemMiddleware, RedisBackend, Resources
from fastapi_prodkit._shutdown import STATE_KEY, Shutdown
from tests.servers import RedisServer


async def _well() -> None: ...


async def _broken() -> None:
    raise ConnectionError("postgres://admin:hunter2@db refused")


async def _says_no() -> bool:
    return False


def _client(health: Health) -> TestClient:
    app = FastAPI()
    app.include_router(health)
    return TestClient(app)


def test_ready_names_its_checks_and_is_never_stored() -> None:
    response = _client(Health({"database": _well, "search": _well})).get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "pass", "checks": {"database": "pass", "search": "pass"}}
    assert response.headers["cache-control"] == "no-store"


def test_without_checks_both_questions_are_answered() -> None:
    client = _client(Health())
    assert client.get("/health/live").json() == {"status": "pass"}
    assert client.get("/health/ready").json() == {"status": "pass", "checks": {}}


@pytest.mark.parametrize("middleware", [False, True])
def test_not_ready_is_a_problem_document_that_names_the_check_and_not_its_error(middleware: bool) -> None:
    app = FastAPI()
    app.include_router(Health({"database": _broken, "quota": _says_no, "search": _well}))
    if middleware:
        app.add_middleware(ProblemMiddleware)
    response = TestClient(app).get("/health/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "type": "about:blank",
        "title": "Not Ready",
        "status": 503,
        "detail": "Not well: database, quota.",
        "checks": {"database": "fail", "quota": "fail", "search": "pass"},
    }
    assert "hunter2" not in response.text


def test_a_check_that_hangs_fails_in_time_and_liveness_does_not_care() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    client = _client(Health({"database": hangs, "search": _well}, timeout=0.02))
    assert client.get("/health/ready").json()["checks"] == {"database": "timeout", "search": "pass"}
    assert client.get("/health/live").status_code == 200


async def test_a_check_that_ignores_its_cancellation_holds_no_probe_and_is_not_started_again() -> None:
    released, started = asyncio.Event(), 0

    async def stubborn() -> None:
        nonlocal started
        started += 1
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    health = Health({"database": stubborn}, timeout=0.01)
    for _ in range(3):
        assert await health._checks[0].run() == "timeout"
    assert started == 1
    released.set()
    await asyncio.sleep(0.01)
    assert await health._checks[0].run() == "pass"


async def test_probes_at_the_same_time_share_one_answer() -> None:
    asked = 0

    async def slow() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    check = Health({"database": slow})._checks[0]
    assert await asyncio.gather(*(check.run() for _ in range(20))) == ["pass"] * 20
    assert asked == 1


def test_checks_run_side_by_side() -> None:
    barrier = asyncio.Barrier(3)

    async def meets() -> None:
        await barrier.wait()

    client = _client(Health({"a": meets, "b": meets, "c": meets}, timeout=1))
    assert client.get("/health/ready").status_code == 200


def test_an_app_that_is_about_to_stop_is_not_ready_and_still_alive() -> None:
    app = FastAPI(lifespan=Resources())
    app.include_router(Health({"database": _well}))
    with TestClient(app) as client:
        assert client.get("/health/ready").status_code == 200
        shutdown = client.app_state[STATE_KEY]
        assert isinstance(shutdown, Shutdown)
        shutdown.begin()
        response = client.get("/health/ready")
        assert (response.status_code, response.json()["detail"]) == (503, "The app is about to stop.")
        assert client.get("/health/live").status_code == 200


def test_a_probe_may_ask_with_head() -> None:
    client = _client(Health({"database": _broken}))
    assert client.head("/health/live").status_code == 200
    assert client.head("/health/ready").status_code == 503


def test_openapi_does_not_show_the_routes_unless_it_is_asked_to() -> None:
    assert _client(Health()).get("/openapi.json").json()["paths"] == {}
    shown = _client(Health(include_in_schema=True, prefix="/_")).get("/openapi.json").json()["paths"]
    assert {path: list(operations) for path, operations in shown.items()} == {
        "/_/live": ["get"],
        "/_/ready": ["get"],
    }


def test_a_change_is_logged_and_not_every_probe(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fastapi_prodkit.health")
    answers = [True, False, False, True]

    async def check() -> bool:
        return answers.pop(0)

    client = _client(Health({"database": check}))
    for _ in range(4):
        client.get("/health/ready")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the check database says: fail"),
        ("INFO", "the check database says: pass"),
    ]


def test_the_error_of_a_check_is_in_the_log_for_those_who_look(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="fastapi_prodkit.health")
    _client(Health({"database": _broken})).get("/health/ready")
    assert "ConnectionError" in caplog.text


async def test_a_redis_that_goes_away_and_comes_back_is_seen(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url, timeout=0.3) as backend:

        async def redis() -> None:
            await backend.store.get("health")

        check = Health({"redis": redis}, timeout=1)._checks[0]
        assert await check.run() == "pass"
        fault_server.kill()
        assert await check.run() == "fail"
        fault_server.start()
        async with asyncio.timeout(10):
            while await check.run() != "pass":
                await asyncio.sleep(0.05)


def _plain() -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Health(timeout=0), "timeout=0"),
        (lambda: Health({"db": _plain}), "'db' is no async function"),  # type: ignore[dict-item]  # the point
    ],
)
def test_a_bad_argument_is_refused_when_it_is_given(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
