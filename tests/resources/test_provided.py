from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient

from fastapi_prodkit import ConfigurationError, Provided, Resources

# no `from __future__ import annotations`: dependencies are made inside the tests


class Pool:
    def __init__(self, name: str = "real") -> None:
        self.name = name
        self.is_open = True

    async def __aenter__(self) -> "Pool":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.is_open = False


class Repository:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool


def _shop() -> tuple[FastAPI, Provided[Pool], list[str]]:
    events: list[str] = []
    resources = Resources()

    @resources.provide
    async def pool() -> AsyncIterator[Pool]:
        events.append("open")
        yield Pool()
        events.append("close")

    @resources.provide
    async def repository(source: Annotated[Pool, Depends(pool)]) -> AsyncIterator[Repository]:
        yield Repository(source)

    app = FastAPI(lifespan=resources)

    @app.get("/pool")
    async def read_pool(pool: Annotated[Pool, Depends(pool)]) -> str:
        return pool.name

    @app.get("/repository")
    def read_repository(
        pool: Annotated[Pool, Depends(pool)], repository: Annotated[Repository, Depends(repository)]
    ) -> Any:
        return [repository.pool.name, repository.pool is pool]

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, pool: Annotated[Pool, Depends(pool)]) -> None:
        await websocket.accept()
        await websocket.send_text(pool.name)

    return app, pool, events


def test_a_resource_is_its_own_dependency_in_endpoints_threads_and_sockets() -> None:
    app, _, events = _shop()
    with TestClient(app) as client:
        assert client.get("/pool").json() == "real"
        assert client.get("/repository").json() == ["real", True]
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_text() == "real"
        assert events == ["open"]
    assert events == ["open", "close"]


def test_an_app_starts_again_with_fresh_resources() -> None:
    app, _, events = _shop()
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/pool").json() == "real"
    assert events == ["open", "close"] * 2


def test_two_apps_in_one_process_have_their_own() -> None:
    (first, _, events), (second, _, other_events) = _shop(), _shop()
    with TestClient(first) as one:
        with TestClient(second) as two:
            assert one.get("/pool").json() == two.get("/pool").json() == "real"
        assert (events, other_events) == (["open"], ["open", "close"])
        assert one.get("/pool").json() == "real"


def test_an_overridden_resource_never_starts_and_its_stand_in_reaches_those_that_need_it() -> None:
    app, pool, events = _shop()
    fake = Pool("fake")
    app.dependency_overrides[pool] = lambda: fake
    with TestClient(app) as client:
        assert client.get("/pool").json() == "fake"
        assert client.get("/repository").json() == ["fake", True]
    assert events == []


def test_an_async_stand_in_is_awaited() -> None:
    app, pool, _ = _shop()
    fake = Pool("fake")

    async def stand_in() -> Pool:
        return fake

    app.dependency_overrides[pool] = stand_in
    with TestClient(app) as client:
        assert client.get("/repository").json() == ["fake", True]


def test_use_before_the_start_says_what_to_do() -> None:
    app, _, _ = _shop()
    client = TestClient(app)  # not entered: no lifespan
    with pytest.raises(ConfigurationError, match=r"pool .* has not started: .*lifespan=resources"):
        client.get("/pool")


async def test_the_current_value_is_there_for_code_without_injection() -> None:
    app, pool, _ = _shop()
    with pytest.raises(ConfigurationError, match="has not started"):
        pool.current()
    async with app.router.lifespan_context(app):
        assert pool.current().name == "real"
    with pytest.raises(ConfigurationError, match="has not started"):
        pool.current()


def test_outside_of_an_event_loop_there_is_no_current_value() -> None:
    _, pool, _ = _shop()
    with pytest.raises(ConfigurationError, match="no running event loop"):
        pool.current()


async def test_a_function_that_returns_a_context_manager_provides_what_it_gives() -> None:
    resources = Resources()
    from_class = resources.provide(Pool)

    @resources.provide(start_timeout=5)
    @asynccontextmanager
    async def from_function(first: Pool = Depends(from_class)) -> AsyncIterator[Repository]:
        yield Repository(first)

    async with resources(FastAPI()):
        pool = from_class.current()
        assert from_function.current().pool is pool
        assert pool.is_open
    assert not pool.is_open


def test_a_parameter_that_is_no_resource_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="repository asks for 'pool', which is no resource"):

        @Resources().provide
        async def repository(pool: Pool) -> AsyncIterator[Repository]:
            yield Repository(pool)


def test_an_annotation_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="annotation of the resource repository cannot be read"):

        @Resources().provide
        async def repository(pool: "Nowhere") -> AsyncIterator[Repository]:  # type: ignore[name-defined]  # noqa: F821 -- the point
            yield Repository(pool)
