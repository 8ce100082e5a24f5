"""The quick way to the default line writes what the long way writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from fastapi_prodkit import RequestLoggingMiddleware, bind
from fastapi_prodkit.request_logging import Record, otel

from .lines import Lines

VARYING = {
    "timestamp",
    "request_id",
    "trace_id",
    "span_id",
    "http.server.request.duration",
    "http.server.request.time_to_first_byte",
}


def _long(record: Record) -> bytes:
    """Not the default format itself, so that each record is made."""
    return otel(record)


def _client(lines: Lines, **options: Any) -> TestClient:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, **options)

    @app.get('/odd"%s%%/{item}')
    async def odd(item: str, bound: bool = False) -> str:
        if bound:
            bind(user="ada")
        return item

    @app.api_route("/items/{item}", methods=["GET", "HEAD", "PUT"], status_code=201)
    async def item(item: str) -> str:
        return item

    return TestClient(app, client=("2001:db8::1%eth0", 1))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/items/a"),
        ("HEAD", "/items/a"),
        ("PUT", "/items/aaaaaa"),
        ("GET", '/odd"%25s%25%25/b'),
        ("GET", '/odd"%25s%25%25/b?bound=1'),
        ("POST", "/items/a"),
        ("GET", "/nowhere"),
        ("BREW", "/items/a"),
        ("GET", "/docs"),
    ],
)
def test_both_ways_write_the_same(method: str, path: str) -> None:
    quick, long = Lines(), Lines()
    for lines, options in ((quick, {}), (long, {"format": _long})):
        client = _client(lines, **options)
        for _ in range(2):
            client.request(method, path)
    assert len(quick.raw) == len(long.raw) == 2
    for one, other in zip(quick.records, long.records, strict=True):
        assert list(one) == list(other)
        assert [one[name] for name in one if name not in VARYING] == [
            other[name] for name in other if name not in VARYING
        ]
        assert 0 <= one["http.server.request.time_to_first_byte"] <= one["http.server.request.duration"] < 5
        for name in ("timestamp", "request_id", "trace_id", "span_id"):
            assert len(one[name]) == len(other[name])


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"x-request-id": "a/b=~@:+"},
        {"x-request-id": 'a"b'},
        {"x-forwarded-for": "192.0.2.1"},
        {"x-forwarded-for": "[2001:db8::1]:80"},
        {"x-forwarded-for": 'a"\\'},
    ],
)
def test_both_ways_write_the_same_of_what_a_client_sends(headers: dict[str, str]) -> None:
    quick, long = Lines(), Lines()
    for lines, options in ((quick, {}), (long, {"format": _long})):
        client = _client(lines, trusted_proxies=1, **options)
        for given in ({}, headers, headers):
            client.get("/items/a", headers=given)
    for one, other in zip(quick.records, long.records, strict=True):
        assert list(one) == list(other)
        for name in ("client.address", "parent_span_id"):
            assert one.get(name) == other.get(name)
    if "traceparent" in headers:
        assert quick.records[-1]["parent_span_id"] == "00f067aa0ba902b7"
        assert quick.records[-1]["trace_id"] == long.records[-1]["trace_id"]
    elif headers == {"x-request-id": "a/b=~@:+"}:
        assert quick.records[-1]["request_id"] == long.records[-1]["request_id"] == "a/b=~@:+"


def test_the_shapes_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_prodkit.request_logging.quick._MOST", 2)
    lines = Lines()
    client = _client(lines)
    for path in ("/items/a", "/docs", '/odd"%25s%25%25/c', "/items/b", "/docs"):
        client.get(path)
    assert [json.loads(line)["http.route"] for line in lines.raw] == [
        "/items/{item}",
        "/docs",
        '/odd"%s%%/{item}',
        "/items/{item}",
        "/docs",
    ]


async def _here(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


@pytest.mark.parametrize("options", [{}, {"format": _long}])
@pytest.mark.parametrize(
    ("add", "path", "route"),
    [
        (lambda app, mounted: app.mount("/second", mounted), "/second/items/1", "/second/items/{item}"),
        (lambda app, mounted: app.host("testserver", mounted), "/items/1", "/items/{item}"),
        (lambda app, mounted: app.router.add_route("/there", _here), "/there", "/there"),
        (
            lambda app, mounted: app.routes[-1].app.mount("/third", mounted),
            "/deep/third/items/1",
            "/deep/third/items/{item}",
        ),
    ],
)
def test_what_is_served_at_one_place_more_has_its_own_label_within_a_second(
    options: Any, add: Any, path: str, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_700_000_000.0
    for clock in ("request_logging.quick.time", "request_logging.record.time", "_routes.monotonic"):
        monkeypatch.setattr(f"fastapi_prodkit.{clock}", lambda: now)
    lines, app, mounted = Lines(), FastAPI(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=lines, **options)
    mounted.get("/items/{item}")(lambda item: item)
    app.router.add_route("/here", _here)
    app.mount("/first", mounted)
    app.mount("/deep", FastAPI())
    client = TestClient(app)
    for each in ("/here", "/first/items/1") * 2:
        assert client.get(each).status_code == 200
    add(app, mounted)
    now += 1
    for each in (path, "/here", "/first/items/1", path):
        assert client.get(each).status_code == 200
    served = ["/here", "/first/items/{item}"]
    assert [record["http.route"] for record in lines.records] == [*served, *served, route, *served, route]
