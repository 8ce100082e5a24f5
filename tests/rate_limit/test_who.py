"""Who a request counts for, and who tries to be somebody else."""

from __future__ import annotations

import logging
import tracemalloc

import httpx2
import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection, Request

from fastapi_prodkit import MemoryBackend, RateLimiter, RateLimitMiddleware, TrustedProxies
from fastapi_prodkit.rate_limit import Key, by_header
from fastapi_prodkit.typing import Charge, Verdict
from tests.servers import Uvicorn

from .conftest import Open


async def _endpoint() -> str:
    return "ok"


def _app(limiter: RateLimiter, **options: object) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limiter("1/minute", **options))])(_endpoint)  # type: ignore[arg-type] # any option
    return app


async def _statuses(client: httpx2.AsyncClient, *headers: dict[str, str]) -> list[int]:
    return [(await client.get("/", headers=each)).status_code for each in headers]


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip", "client-ip"]
)
async def test_without_trusted_proxies_no_header_makes_a_new_client(client_of: Open, header: str) -> None:
    client = await client_of(_app(RateLimiter(MemoryBackend().counters)))
    spoofs = [{header: value} for value in ("1.1.1.1", "for=2.2.2.2", "3.3.3.3, 4.4.4.4")]
    assert await _statuses(client, *spoofs) == [200, 429, 429]


async def test_behind_a_trusted_proxy_only_what_it_wrote_counts(client_of: Open) -> None:
    limiter = RateLimiter(MemoryBackend().counters, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    client = await client_of(_app(limiter))
    chains = ["9.9.9.1, 1.1.1.1", "9.9.9.2, 1.1.1.1", "9.9.9.3, 1.1.1.1, 10.0.0.1", "1.1.1.1, 2.2.2.2"]
    assert await _statuses(client, *({"x-forwarded-for": each} for each in chains)) == [200, 429, 429, 200]


async def test_behind_a_number_of_proxies_only_what_the_outermost_wrote_counts(client_of: Open) -> None:
    client = await client_of(_app(RateLimiter(MemoryBackend().counters, trusted_proxies=1)))
    chains = ["9.9.9.1, 1.1.1.1", "9.9.9.2, 1.1.1.1", "2.2.2.2"]
    assert await _statuses(client, *({"x-forwarded-for": each} for each in chains)) == [200, 429, 200]


async def test_the_addresses_of_one_ipv6_subscriber_are_one_client(client_of: Open) -> None:
    app = _app(RateLimiter(MemoryBackend().counters))
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1", "::ffff:9.9.9.9", "9.9.9.9"]
    statuses = [(await (await client_of(app, address=each)).get("/")).status_code for each in addresses]
    assert statuses == [200, 429, 200, 200, 429]


_OURS = ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("header", "proxies", "peer", "lines"),
    [
        ("x-forwarded-for", _OURS, "203.0.113.9", ["1.1.1.1", "2.2.2.2", "10.0.0.1", "", "203.0.113.9"]),
        ("x-forwarded-for", _OURS, "10.0.0.1", ["1.1.1.1", "9.9.9.1, 1.1.1.1", "10.0.0.7, 1.1.1.1"]),
        ("x-forwarded-for", _OURS, "10.0.0.1", ["1.1.1.1, 10.0.0.2", "6.6.6.6,1.1.1.1:443 , 10.0.0.3"]),
        ("x-forwarded-for", _OURS, "10.0.0.1", ["6.6.6.6\n1.1.1.1", "7.7.7.7\n1.1.1.1\n10.0.0.2"]),
        ("x-forwarded-for", _OURS, "10.0.0.1", ["6.6.6.6, unknown", "7.7.7.7, <script>", ",", ""]),
        ("x-forwarded-for", _OURS, "fd00::1", ["2001:db8:1:2::1", "[2001:DB8:1:2:ff::9]:80, 10.0.0.9"]),
        ("x-forwarded-for", _OURS, "::ffff:10.0.0.1", ["1.1.1.1", "::ffff:1.1.1.1", "[::ffff:101:101]:80"]),
        ("x-forwarded-for", 1, "10.0.0.1", ["1.1.1.1", "10.0.0.2, 1.1.1.1", "2.2.2.2, 3.3.3.3, 1.1.1.1"]),
        ("x-forwarded-for", 2, "10.0.0.1", ["1.1.1.1, 10.0.0.2", "9.9.9.9, 1.1.1.1, 4.4.4.4"]),
        ("x-forwarded-for", 1, "10.0.0.1", ["2001:db8:1:2::1", "6.6.6.6, 2001:db8:1:2:ffff::9"]),
        ("forwarded", _OURS, "203.0.113.9", ["for=1.1.1.1", "for=2.2.2.2;by=10.0.0.1", 'for="[::1]"']),
        ("forwarded", _OURS, "10.0.0.1", ["for=1.1.1.1", "For=6.6.6.6, FOR=1.1.1.1;proto=https"]),
        ("forwarded", _OURS, "10.0.0.1", ['for="1.1.1.1:47011"', "for=6.6.6.6\nfor=1.1.1.1, for=10.0.0.2"]),
        ("forwarded", _OURS, "10.0.0.1", ['for="[2001:db8:1:2::1]:47011"', 'for="[2001:DB8:1:2::2]"']),
        ("forwarded", _OURS, "10.0.0.1", ['for="[::ffff:1.1.1.1]"', "host=a;for=1.1.1.1"]),
        (
            "forwarded",
            _OURS,
            "10.0.0.1",
            ["for=_hidden", "for=6.6.6.6, for=unknown", "for=6.6.6.6;for=7.7.7.7"],
        ),
        ("forwarded", 1, "10.0.0.1", ["for=1.1.1.1", "for=6.6.6.6, for=10.0.0.2, for=1.1.1.1"]),
    ],
)
async def test_whatever_a_client_forges_it_has_one_budget(
    client_of: Open, header: str, proxies: list[str] | int, peer: str, lines: list[str]
) -> None:
    trusted = TrustedProxies(proxies, header=header)
    app = _app(RateLimiter(MemoryBackend().counters, trusted_proxies=trusted))
    client = await client_of(app, address=peer)
    other = "x-forwarded-for" if header == "forwarded" else "forwarded"
    forged = [*((header, each) for each in lines[0].split("\n")), (other, "for=8.8.8.8")]
    assert (await client.get("/", headers=forged)).status_code == 200
    for number, line in enumerate(lines):
        forged = [*((header, each) for each in line.split("\n")), (other, f"for=8.8.8.{number}")]
        assert (await client.get("/", headers=forged)).status_code == 429, line


@pytest.mark.parametrize(
    ("header", "peer", "lines"),
    [
        ("x-forwarded-for", "10.0.0.1", ["1.1.1.1", "1.1.1.2", "1.1.1.1, 2.2.2.2, 10.0.0.2"]),
        ("x-forwarded-for", "fd00::1", ["2001:db8:1:2::1", "2001:db8:1:3::1", "::ffff:1.1.1.1", "1.1.1.2"]),
        ("forwarded", "10.0.0.1", ["for=1.1.1.1", "for=1.1.1.1, for=1.1.1.2", 'for="[::ffff:1.1.1.3]:80"']),
        ("forwarded", "10.0.0.1", ['for="[2001:db8:1:2::1]"', 'for="[2001:db8:1:3::1]:80"', "for=10.0.0.9"]),
    ],
)
async def test_two_clients_behind_one_proxy_have_a_budget_each(
    client_of: Open, header: str, peer: str, lines: list[str]
) -> None:
    trusted = TrustedProxies(_OURS, header=header)
    client = await client_of(
        _app(RateLimiter(MemoryBackend().counters, trusted_proxies=trusted)), address=peer
    )
    for expected in (200, 429):
        assert await _statuses(client, *({header: line} for line in lines)) == [expected] * len(lines)


async def test_a_key_may_be_any_function_plain_or_async(client_of: Open) -> None:
    async def later(connection: HTTPConnection) -> str | None:
        return connection.headers.get("x-user")

    keys: list[Key] = [later, lambda connection: connection.headers.get("x-user"), by_header("x-user")]
    for key in keys:
        client = await client_of(_app(RateLimiter(MemoryBackend().counters), key=key))
        assert await _statuses(client, {"x-user": "a"}, {"x-user": "a"}, {"x-user": "b"}) == [200, 429, 200]


@pytest.mark.parametrize("missing", [None, ""])
async def test_a_key_that_yields_nothing_is_an_error_and_never_a_way_through(
    client_of: Open, missing: str | None
) -> None:
    client = await client_of(_app(RateLimiter(MemoryBackend().counters), key=lambda _: missing))
    assert await _statuses(client, {}, {}) == [500, 500]


async def test_who_has_no_key_may_share_one_budget(client_of: Open) -> None:
    limiter = RateLimiter(MemoryBackend().counters, without_key="shared", key=by_header("x-user"))
    client = await client_of(_app(limiter))
    assert await _statuses(client, {}, {}, {"x-user": "-"}) == [200, 429, 200]


async def test_a_key_function_that_fails_lets_nobody_through(client_of: Open) -> None:
    def key(connection: HTTPConnection) -> str:
        raise LookupError

    client = await client_of(_app(RateLimiter(MemoryBackend().counters), key=key))
    assert await _statuses(client, {}, {}) == [500, 500]


async def test_identities_are_hashed_before_they_leave_the_process() -> None:
    class Spy:
        subjects: list[str]

        def __init__(self) -> None:
            self.subjects = []

        async def weigh(self, *charges: Charge, force: bool = False) -> list[Verdict]:
            self.subjects += [charge.subject for charge in charges]
            return [Verdict(True, 1, 0, 0) for charge in charges for _ in charge.limits]

        async def reset(self, subject: str, limits: object) -> None: ...

    spy = Spy()
    for secret in (b"", b"one", b"two"):
        rule = RateLimiter(spy, secret=secret)("1/minute", name="x")
        await rule.peek("ada@example.org")
    assert len(set(spy.subjects)) == 3
    assert not any("ada" in subject for subject in spy.subjects)


async def test_keys_of_any_length_are_not_kept() -> None:
    rule = RateLimiter(MemoryBackend().counters, key=by_header("x-api-key"))("9/minute", name="keys")
    tracemalloc.start()
    for number in range(1000):
        field = (b"x-api-key", b"%060000d" % number)
        await rule.hit(Request({"type": "http", "headers": [field], "path": "/"}))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2_000_000


async def test_the_exempt_are_neither_counted_nor_refused(client_of: Open) -> None:
    async def exempt(connection: HTTPConnection) -> bool:
        return connection.headers.get("x-probe") == "yes"

    client = await client_of(_app(RateLimiter(MemoryBackend().counters), exempt=exempt))
    probe = {"x-probe": "yes"}
    assert await _statuses(client, probe, probe, {}, {}, probe) == [200, 200, 200, 429, 200]
    assert "ratelimit" not in (await client.get("/", headers=probe)).headers


def create_app() -> FastAPI:
    """Served by uvicorn below."""
    logging.basicConfig(level=logging.INFO)
    return _app(RateLimiter(MemoryBackend().counters))


@pytest.mark.parametrize(("trusted", "warned"), [("*", True), ("127.0.0.1", False)])
def test_a_server_that_trusts_everybody_is_warned_of_at_its_start(trusted: str, warned: bool) -> None:
    arguments = ["--factory", "--forwarded-allow-ips", trusted]
    with Uvicorn("tests.rate_limit.test_who:create_app", arguments=arguments) as server:
        assert httpx2.get(server.url).status_code == 200
    assert ("uvicorn trusts every peer" in server.output) is warned


@pytest.mark.parametrize("written", ["2001:db8::1", "2001:DB8:0::7", "2001:db8::/64", "[2001:db8::1]:443"])
async def test_an_address_is_looked_up_as_people_write_it(client_of: Open, written: str) -> None:
    limiter = RateLimiter(MemoryBackend().counters)
    limit = limiter("1/hour")
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.get("/", dependencies=[Depends(limit)])(lambda: "ok")
    client = await client_of(app, address="2001:db8::1")
    assert [(await client.get("/")).status_code for _ in range(2)] == [200, 429]
    assert (await limit.peek(written)).remaining == 0
    await limiter.reset(written)
    assert (await client.get("/")).status_code == 200
