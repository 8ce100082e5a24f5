"""The miss and the hit equal the uncached response, whatever the shape of the route."""

from __future__ import annotations

import inspect
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_prodkit import Cache, CacheMiddleware

from .conftest import Connect
from .shapes import SHAPES, Build, Wrap

OURS = {"age", "etag", "cache-control", "vary", "cache-status"}


def _unwrapped(**options: Any) -> Any:
    return lambda function: function


def _app(build: Build, wrap: Wrap) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    build(app, wrap)
    return app


def _seen(response: httpx2.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    fields = [(name, value) for name, value in response.headers.multi_items() if name not in OURS]
    return response.status_code, sorted(fields), response.content


async def _ask(client: httpx2.AsyncClient, request: dict[str, Any]) -> httpx2.Response:
    client.cookies.clear()
    return await client.request(**request)


def test_there_are_enough_shapes() -> None:
    assert len(SHAPES) >= 32


NEVER_KEPT = {"error_response", "cookie_set_by_the_endpoint", "large"}


@pytest.mark.parametrize("name", SHAPES)
async def test_miss_and_hit_equal_the_uncached_response(cache: Cache, connect: Connect, name: str) -> None:
    build, requests = SHAPES[name]

    def wrap(**options: Any) -> Any:
        return cache(ttl=60, **options)

    async with connect(_app(build, _unwrapped)) as plain, connect(_app(build, wrap)) as cached:
        for request in requests:
            expected = _seen(await _ask(plain, request))
            assert _seen(await _ask(cached, request)) == expected, f"the miss of {request}"
        for number, request in enumerate(requests):
            expected = _seen(await _ask(plain, request))
            hit = await _ask(cached, request)
            assert _seen(hit) == expected, f"the hit of {request}"
            if number == 0:
                is_hit = "; hit" in hit.headers.get("cache-status", "")
                assert is_hit == (name not in NEVER_KEPT)


@pytest.mark.parametrize("name", SHAPES)
def test_openapi_and_the_signature_are_untouched(name: str) -> None:
    build, _ = SHAPES[name]
    cache = Cache()
    wrapped = []

    def wrap(**options: Any) -> Any:
        def decorate(function: Any) -> Any:
            result = cache(ttl=60, **options)(function)
            wrapped.append((function, result))
            return result

        return decorate

    assert _app(build, wrap).openapi() == _app(build, _unwrapped).openapi()
    for function, result in wrapped:
        assert inspect.signature(result) == inspect.signature(function)
        assert (result.__name__, result.__doc__) == (function.__name__, function.__doc__)
