"""Who is at the other end, seen through the proxies in between.

A header such as `X-Forwarded-For` is what each hop says of the one before it: only its right end, as far as
the proxies that wrote it are known, is more than the client's own word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from ._arguments import field_name, names
from .errors import ConfigurationError

__all__ = ["TrustedProxies", "canonical", "network"]

_MAX_HOPS = 32  # a chain of forged "proxies" must not cost more than a real one


class TrustedProxies:
    """Finds a client's address behind the proxies that are trusted.

    :param proxies: the networks of your proxies (`"10.0.0.0/8"`, `"unix"` for a unix socket), walked from
        the right end of the header to the first address that is none of them; or how many proxies stand
        in front of the app, where their addresses are not known. None at all: the peer is the client.
    :param header: the one header that your proxies write. `forwarded` is read by RFC 7239, any other as a
        list of addresses. One that they only pass through is the client's to forge.
    :raises ConfigurationError: for a network that cannot be read, or that trusts everybody.
    """

    def __init__(self, proxies: Iterable[str] | int = (), *, header: str = "x-forwarded-for") -> None:
        self.hops = _hops(proxies)
        names = [] if isinstance(proxies, int) else _names(proxies)
        self._unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]
        self._header = field_name("header", header)
        self._elements = _forwarded if self._header == b"forwarded" else _listed
        self._none = not (names or self.hops)
        self._is_trusted = lru_cache(maxsize=4096)(self._in_networks)

    @classmethod
    def of(cls, given: TrustedProxies | Iterable[str] | int) -> TrustedProxies:
        """What a component's `trusted_proxies=` argument means."""
        return given if isinstance(given, TrustedProxies) else cls(given)

    def client(self, scope: Scope) -> str | None:
        """The client's address: IPv4 even where mapped into IPv6, IPv6 in its short form, no port.

        `None` for a unix socket that no trusted proxy stands behind.
        """
        peer = scope.get("client")
        host: str | None = peer[0] if peer and peer[0] else None
        if host is not None and (":" in host or "%" in host):
            host = canonical(host) or host
        if self._none:
            return host
        if self.hops:
            return self._by_count(scope, host)
        if not (self._unix if host is None else self._is_trusted(host)):
            return host
        for hop, address in enumerate(self._chain(scope)):
            if address is None or hop == _MAX_HOPS:
                break
            host = address
            if not self._is_trusted(address):
                break
        return host

    def trusts(self, scope: Scope) -> bool:
        """Whether the peer itself is one of the proxies, so that what it says of a request is believed."""
        if self._none:
            return False
        peer = scope.get("client")
        if self.hops:
            return True
        if not (peer and peer[0]):
            return self._unix
        return self._is_trusted(canonical(peer[0]) or peer[0])

    def _by_count(self, scope: Scope, host: str | None) -> str | None:
        """The entry that the outermost of our proxies wrote; a shorter chain went round some of them."""
        for hop, address in enumerate(self._chain(scope)):
            if address is None or hop == self.hops:
                break
            host = address
        return host

    def _chain(self, scope: Scope) -> Iterator[str | None]:
        """The addresses in the header, nearest first; `None` for one that is no address."""
        lines = [value for name, value in scope["headers"] if name == self._header]
        for line in reversed(lines):
            for element in self._elements(line.decode("latin-1")):
                yield canonical(element)

    def _in_networks(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def network(address: str, prefix: int = 64) -> str:
    """The network that an IPv6 address is of, which is what one subscriber has; IPv4 as it is."""
    if ":" not in address:
        return address
    try:
        return str(ip_network((address, prefix), strict=False))
    except ValueError:
        return address


def _listed(line: str) -> Iterator[str]:
    return reversed(line.split(","))


def _forwarded(line: str) -> Iterator[str]:
    """The `for` parameter of each element, nearest first (RFC 7239, section 4)."""
    for element in reversed(line.split(",")):
        pairs = (pair.partition("=") for pair in element.split(";"))
        values = [value for name, _, value in pairs if name.strip().lower() == "for"]
        yield values[0].strip().strip('"') if len(values) == 1 else ""


def canonical(text: str) -> str | None:
    """An address without port, brackets and zone, in its canonical form."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _hops(proxies: Iterable[str] | int) -> int:
    if not isinstance(proxies, int):
        return 0
    if isinstance(proxies, bool) or proxies < 0:
        raise ConfigurationError(
            f"trusted_proxies={proxies!r}: give the number of proxies in front of the app, or their networks"
        )
    return proxies


def _names(proxies: Iterable[str]) -> list[str]:
    given = names("trusted_proxies", proxies.split(",") if isinstance(proxies, str) else proxies)
    return [name.strip().lower() for name in given]


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        found = ip_network(name, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"trusted_proxies has {name!r}, which is no network: write '10.0.0.0/8', 'fd00::/8' or 'unix'"
        ) from None
    if found.prefixlen == 0:
        raise ConfigurationError(
            f"trusted_proxies has {name!r}, by which every client may forge its address: name the networks "
            "of your proxies, or give their number"
        )
    return found
