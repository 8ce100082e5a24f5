"""A parameter that was meant to be injected and that FastAPI reads from the request stops the start.

FastAPI says nothing of it: the route would answer 422 at best, and believe whatever a client sends at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import (
    CacheMiddleware,
    Claims,
    ConfigurationError,
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RequestLoggingMiddleware,
    Resources,
    Tasks,
)
from fastapi_prodkit.auth import query
from tests.whole import local_names
from tests.whole.everything import auth


@pytest.mark.parametrize("create", [local_names.http, local_names.websocket, local_names.dependency])
def test_an_annotation_that_names_what_is_local_to_the_factory(create: Callable[[], FastAPI]) -> None:
    with pytest.raises(ConfigurationError, match="from __future__ import annotations") as refusal:
        TestClient(create()).__enter__()
    assert "'claims' of " in str(refusal.value)


def test_a_default_can_be_local_to_the_factory() -> None:
    with TestClient(local_names.default()) as client:
        token = auth.issue("ada", ttl=60)
        assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).json() == "ada"


@pytest.mark.parametrize("hint", [Claims, Claims | None, list[Claims]])
def test_claims_that_nobody_injects(hint: object) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    async def me(claims) -> str:  # type: ignore[no-untyped-def]  # annotated below
        return str(claims)

    me.__annotations__ = {"claims": hint}
    app.post("/me")(me)
    with pytest.raises(ConfigurationError, match=r"Claims that any client could send.*Depends"):
        TestClient(app).__enter__()


@pytest.mark.parametrize(
    "installed",
    [CacheMiddleware, ProblemMiddleware, RateLimitMiddleware, RequestLoggingMiddleware, Resources],
)
def test_whatever_of_the_package_is_installed_sees_it(installed: Any) -> None:
    app = FastAPI(lifespan=Resources()) if installed is Resources else FastAPI()
    if installed is not Resources:
        app.add_middleware(installed)

    @app.post("/me")
    async def me(claims: Claims) -> str:
        return claims.subject

    with pytest.raises(ConfigurationError, match="any client could send"):
        TestClient(app).__enter__()


@pytest.mark.parametrize("hint", [Annotated[Claims, Depends()], Annotated[Tasks, Depends(Tasks)]])
def test_a_class_in_place_of_the_object(hint: object) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    async def route(injected) -> str:  # type: ignore[no-untyped-def]  # annotated below
        return str(injected)

    route.__annotations__ = {"injected": hint}
    app.get("/")(route)
    with pytest.raises(ConfigurationError, match="out of what the client sends"):
        TestClient(app).__enter__()


@pytest.mark.parametrize(
    "maker",
    [auth.requires, RateLimiter(MemoryBackend().counters).concurrent, query],
    ids=lambda each: each.__name__,
)
def test_what_makes_a_dependency_in_place_of_the_dependency(maker: Any) -> None:
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/", dependencies=[Depends(maker)])
    async def route() -> None: ...

    with pytest.raises(ConfigurationError, match=rf"Depends\({maker.__qualname__}\(\.\.\.\)\)"):
        TestClient(app).__enter__()
