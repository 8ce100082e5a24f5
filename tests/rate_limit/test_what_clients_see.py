"""Headers, refusals, the OpenAPI document and sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fastapi_prodkit import (
    MemoryBackend,
    ProblemMiddleware,
    RateLimiter,
    RateLimitMiddleware,
    RedisBackend,
)
from fastapi_prodkit.rate_limit import Calendar, Decision
from fastapi_prodkit.testing import Clock
from fastapi_prodkit.typing import Backend
from tests.servers import Uvicorn

from .conftest import Open


def _app(limiter: RateLimiter, limit: str = "9/minute", **options: object) -> FastAPI:
    app = FastAPI(dependencies=[Depends(limiter(limit, **options))])  # type: ignore[arg-type] # any option
    app.add_middleware(RateLimitMiddleware)
    prebuilt = Response("shared")

    @app.get("/dict")
    async def a_dict() -> dict[str, int]:
        return {"a": 1}

    @app.get("/response")
    async def a_response() -> Response:
        return prebuilt

    @app.get("/stream")
    async def a_stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"part"

        return StreamingResponse(parts())

    @app.get("/unchanged", status_code=304)
    async def unchanged() -> None: ...

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/invalid")
    async def invalid(number: int) -> None: ...

    return app


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("dict", 200),
        ("response", 200),
        ("stream", 200),
        ("unchanged", 304),
        ("missing", 404),
        ("invalid", 422),
    ],
)
async def test_every_kind_of_response_tells_the_limits(client_of: Open, path: str, status: int) -> None:
    client = await client_of(_app(RateLimiter(MemoryBackend().counters), "2/minute"))
    for left, expected in ((1, status), (0, status), (0, 429)):
        answer = await client.get(f"/{path}")
        assert answer.status_code == expected
        assert answer.headers.get_list("ratelimit-policy") == ['"per-minute";q=2;w=60']
        assert len(answer.headers.get_list("ratelimit")) == 1
        assert f'"per-minute";r={left};t=' in answer.headers["ratelimit"]


async def test_an_app_that_sends_one_message_again_and_again_tells_the_limits_once(client_of: Open) -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body"})

    app = FastAPI()
    limiter = RateLimiter(MemoryBackend().counters)
    app.add_middleware(RateLimitMiddleware, limits=[limiter("9/minute", name="app")])
    app.mount("/raw", raw)
    client = await client_of(app)
    for left in (8, 7, 6):
        headers = (await client.get("/raw/")).headers
        assert [each.split(";t=")[0] for each in headers.get_list("ratelimit")] == [f'"app";r={left}']


async def test_a_refusal_is_a_problem_that_names_the_violated_policies(client_of: Open) -> None:
    app = _app(RateLimiter(MemoryBackend(clock=Clock()).counters), "2/minute;2/hour;9/day")
    app.add_middleware(ProblemMiddleware)
    client = await client_of(app)
    for _ in range(3):
        answer = await client.get("/dict")
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1800"
    document = answer.json()
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert document["violated-policies"] == ["per-minute", "per-hour"]
    assert document["status"] == 429


async def test_the_older_headers_are_there_on_demand(client_of: Open) -> None:
    app = FastAPI()
    limiter = RateLimiter(MemoryBackend(clock=Clock()).counters)
    app.add_middleware(RateLimitMiddleware, legacy_headers=True)
    app.get("/", dependencies=[Depends(limiter("2/minute;30/hour"))])(lambda: "ok")
    headers = (await (await client_of(app)).get("/")).headers
    assert headers["x-ratelimit-limit"] == "2"
    assert headers["x-ratelimit-remaining"] == "1"
    assert headers["x-ratelimit-reset"] == "30"


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "moving", Calendar("Europe/Berlin")])
@pytest.mark.parametrize("place", ["memory", "redis"])
async def test_who_sleeps_retry_after_is_admitted_and_who_sleeps_a_second_less_is_not(
    request: pytest.FixtureRequest, client_of: Open, place: str, algorithm: object
) -> None:
    clock = Clock()
    backend: Backend = (
        MemoryBackend(clock=clock, wall_clock=clock)
        if place == "memory"
        else RedisBackend(request.getfixturevalue("redis_url"), timeout=5, clock=clock)
    )
    limit = "7/day" if isinstance(algorithm, Calendar) else "7/minute"
    async with backend:
        client = await client_of(_app(RateLimiter(backend.counters), limit, algorithm=algorithm))
        for _ in range(100):
            while (answer := await client.get("/dict")).status_code == 200:
                clock.advance(0.83)
            wait = int(answer.headers["retry-after"])
            clock.advance(wait - 1)
            assert (await client.get("/dict")).status_code == 429
            clock.advance(1)
            assert (await client.get("/dict")).status_code == 200


async def test_an_answer_tells_of_what_was_reserved_for_it(client_of: Open) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limiter = RateLimiter(MemoryBackend(clock=Clock()).counters)
    tokens = limiter("100/hour", name="tokens")

    @app.get("/", dependencies=[Depends(limiter("9/minute"))])
    async def ask(request: Request) -> None:
        for cost in (20, 50):
            async with tokens.reserve(request, cost) as reservation:
                reservation.settle(cost - 10)

    client = await client_of(app)
    states = [(await client.get("/")).headers for _ in range(2)]
    assert [each["ratelimit"] for each in states] == [
        '"per-minute";r=8;t=7, "tokens";r=50;t=1800',
        '"per-minute";r=7;t=14, "tokens";r=40;t=2160',
    ]
    assert states[1]["ratelimit-policy"] == '"per-minute";q=9;w=60, "tokens";q=100;w=3600'
    assert states[1]["retry-after"] == "360"


async def test_a_cost_that_never_fits_has_no_retry_after(client_of: Open) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limiter = RateLimiter(MemoryBackend().counters)
    app.get("/", dependencies=[Depends(limiter("9/minute", cost=lambda _: 10))])(lambda: "ok")
    answer = await (await client_of(app)).get("/")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers


async def test_an_endpoint_may_read_what_was_decided(client_of: Open) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    rule = RateLimiter(MemoryBackend().counters)("9/minute")

    @app.get("/")
    async def read(decision: Decision = Depends(rule)) -> float:
        return decision.remaining

    assert (await (await client_of(app)).get("/")).json() == 8


async def test_the_openapi_document_tells_of_the_refusal_and_of_the_headers(client_of: Open) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    limiter = RateLimiter(MemoryBackend().counters)
    app.get("/limited", dependencies=[Depends(limiter("9/minute"))])(lambda: "ok")
    app.get("/free")(lambda: "ok")
    paths = (await (await client_of(app)).get("/openapi.json")).json()["paths"]
    responses = paths["/limited"]["get"]["responses"]
    assert set(responses) == {"200", "429"}
    assert "Retry-After" in responses["429"]["headers"]
    assert "RateLimit" in responses["200"]["headers"]
    assert "application/problem+json" in responses["429"]["content"]
    assert set(paths["/free"]["get"]["responses"]) == {"200"}


async def test_the_openapi_documents_tell_of_limits_in_mounted_apps_and_of_the_whole_app(
    client_of: Open,
) -> None:
    limiter = RateLimiter(MemoryBackend().counters)
    app, guarded, inner = FastAPI(), FastAPI(), FastAPI()
    app.add_middleware(RateLimitMiddleware)
    guarded.add_middleware(RateLimitMiddleware, limits=[limiter("99/minute", name="app")])
    inner.get("/limited", dependencies=[Depends(limiter("9/minute"))])(lambda: "ok")
    inner.get("/free")(lambda: "ok")
    guarded.get("/free")(lambda: "ok")
    app.mount("/inner", inner)
    paths = (await (await client_of(app)).get("/inner/openapi.json")).json()["paths"]
    assert set(paths["/limited"]["get"]["responses"]) == {"200", "429"}
    assert set(paths["/free"]["get"]["responses"]) == {"200"}
    paths = (await (await client_of(guarded)).get("/openapi.json")).json()["paths"]
    assert set(paths["/free"]["get"]["responses"]) == {"200", "429"}
    assert "RateLimit" in paths["/free"]["get"]["responses"]["200"]["headers"]


def create_app() -> FastAPI:
    """Served by uvicorn below: three handshakes a minute, and five messages a minute across them."""
    limiter = RateLimiter(MemoryBackend().counters)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    messages = limiter("5/hour", name="messages")

    @app.websocket("/ws", dependencies=[Depends(limiter("3/hour"))])
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            decision = await messages.hit(websocket)
            await websocket.send_text(text if decision.admitted else f"wait {decision.retry_after}")

    return app


@pytest.fixture(scope="module")
def socket_server() -> Iterator[Uvicorn]:
    with Uvicorn("tests.rate_limit.test_what_clients_see:create_app", arguments=["--factory"]) as server:
        yield server


async def test_a_handshake_is_refused_as_http_and_messages_count_across_connections(
    socket_server: Uvicorn,
) -> None:
    url = socket_server.url.replace("http", "ws") + "/ws"
    replies = []
    for left in (2, 1, 0):
        async with connect(url) as socket:
            assert socket.response is not None
            assert socket.response.headers["ratelimit"].startswith(f'"per-hour";r={left};t=')
            for _ in range(2):
                await socket.send("hello")
                replies.append(await socket.recv())
    assert replies == ["hello"] * 5 + ["wait 720"]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    response = refused.value.response
    assert response.status_code == 429
    assert 1190 <= int(response.headers["retry-after"]) <= 1200
    assert response.headers["ratelimit-policy"] == '"per-hour";q=3;w=3600'
