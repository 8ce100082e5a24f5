"""The client's address behind proxies, and the ways in which clients try to choose it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from fastapi_prodkit import ConfigurationError, TrustedProxies
from fastapi_prodkit._client import network


def _scope(peer: str | None, *lines: str, header: str = "x-forwarded-for") -> Scope:
    headers = [(header.encode(), line.encode()) for line in lines]
    return {"type": "http", "client": (peer, 1234) if peer else None, "headers": headers}


def _client(proxies: object, peer: str | None, *lines: str, header: str = "x-forwarded-for") -> str | None:
    trusted = TrustedProxies(proxies, header=header)  # type: ignore[arg-type] # any kind, for short
    return trusted.client(_scope(peer, *lines, header=header))


PRIVATE = ["10.0.0.0/8", "fd00::/8", "127.0.0.1"]


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("1.2.3.4",), "203.0.113.9"),
        ("10.0.0.1", ("1.2.3.4",), "1.2.3.4"),
        ("10.0.0.1", ("6.6.6.6, 1.2.3.4",), "1.2.3.4"),
        ("10.0.0.1", ("6.6.6.6, 1.2.3.4, 10.9.9.9",), "1.2.3.4"),
        ("10.0.0.1", ("6.6.6.6", "1.2.3.4, 10.9.9.9"), "1.2.3.4"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", ("1.2.3.4:5678",), "1.2.3.4"),
        ("10.0.0.1", ("[2001:DB8::1]:5678",), "2001:db8::1"),
        ("10.0.0.1", ("2001:db8:0::1",), "2001:db8::1"),
        ("10.0.0.1", ("::ffff:1.2.3.4",), "1.2.3.4"),
        ("::ffff:10.0.0.1", ("1.2.3.4",), "1.2.3.4"),
        ("::ffff:203.0.113.9", ("1.2.3.4",), "203.0.113.9"),
        ("fd00::7", ("1.2.3.4",), "1.2.3.4"),
        ("10.0.0.1", ("6.6.6.6, unknown",), "10.0.0.1"),
        ("10.0.0.1", ("6.6.6.6, ",), "10.0.0.1"),
        ("10.0.0.1", ("6.6.6.6, 10.0.0.2, <script>",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        (None, ("1.2.3.4",), None),
        ("testclient", ("1.2.3.4",), "testclient"),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy_is_the_client(
    peer: str | None, lines: tuple[str, ...], client: str | None
) -> None:
    assert _client(PRIVATE, peer, *lines) == client


@pytest.mark.parametrize(
    ("hops", "lines", "client"),
    [
        (1, ("1.2.3.4",), "1.2.3.4"),
        (1, ("6.6.6.6, 1.2.3.4",), "1.2.3.4"),
        (2, ("6.6.6.6, 1.2.3.4, 10.0.0.2",), "1.2.3.4"),
        (2, ("1.2.3.4",), "1.2.3.4"),
        (2, ("6.6.6.6, nonsense, 1.2.3.4",), "1.2.3.4"),
        (1, (), "203.0.113.9"),
        (0, ("1.2.3.4",), "203.0.113.9"),
    ],
)
def test_a_count_of_proxies_takes_what_the_outermost_of_them_wrote(
    hops: int, lines: tuple[str, ...], client: str
) -> None:
    assert _client(hops, "203.0.113.9", *lines) == client


@pytest.mark.parametrize(
    ("line", "client"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ('for=6.6.6.6;proto=https, For="[2001:db8:cafe::17]:4711";by=10.0.0.1', "2001:db8:cafe::17"),
        ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
        ("for=6.6.6.6, proto=https", "10.0.0.1"),
        ("for=6.6.6.6;for=1.2.3.4", "10.0.0.1"),
        ('for="1.2.3.4:80"', "1.2.3.4"),
    ],
)
def test_the_forwarded_header_is_read_by_its_rfc(line: str, client: str) -> None:
    assert _client(PRIVATE, "10.0.0.1", line, header="forwarded") == client


def test_a_header_that_the_proxies_do_not_write_is_not_read() -> None:
    scope = _scope("10.0.0.1", "for=6.6.6.6", header="forwarded")
    assert TrustedProxies(PRIVATE).client(scope) == "10.0.0.1"


def test_nobody_is_trusted_unless_named() -> None:
    assert _client((), "127.0.0.1", "6.6.6.6") == "127.0.0.1"
    assert _client((), None, "6.6.6.6") is None


def test_a_unix_socket_is_trusted_by_name() -> None:
    assert _client(["unix"], None, "6.6.6.6, 1.2.3.4") == "1.2.3.4"
    assert _client(["unix", "10.0.0.0/8"], None, "6.6.6.6, 1.2.3.4, 10.0.0.1") == "1.2.3.4"
    assert _client("unix, 10.0.0.0/8", None, "1.2.3.4, 10.0.0.1") == "1.2.3.4"


def test_a_long_chain_of_forged_proxies_is_not_walked_to_its_end() -> None:
    forged = ", ".join(["6.6.6.6", *["10.0.0.1"] * 5000])
    assert _client(PRIVATE, "10.0.0.1", forged) == "10.0.0.1"


@given(st.lists(st.text(alphabet='0123456789abcdef.:, []"=;%_\t-', max_size=60), max_size=4))
def test_whatever_a_client_writes_left_of_the_proxy_s_entry_changes_nothing(lines: list[str]) -> None:
    chain = [*lines, "1.2.3.4"]
    for proxies in (PRIVATE, 1):
        assert _client(proxies, "10.0.0.1", *chain) == "1.2.3.4"
        assert _client(proxies, "10.0.0.1", ",".join(chain)) == "1.2.3.4"


def test_an_ipv6_subscriber_is_a_network_of_64_bits() -> None:
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::9") != network("2001:db8:1:2::9")
    assert network("2001:db8:1:2::9", 48) == "2001:db8:1::/48"
    assert network("1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize("proxies", [["10.0.0.0/99"], ["proxy"], ["0.0.0.0/0"], ["::/0"], -1, True, "*"])
def test_proxies_that_cannot_be_meant_are_refused(proxies: object) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies(proxies)  # type: ignore[arg-type] # the wrong kind is the point
