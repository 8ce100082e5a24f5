"""Who a request counts for: functions from a connection to an identity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import HTTPConnection

from .._arguments import count, field_name
from .._client import TrustedProxies, network
from ..errors import ConfigurationError

__all__ = ["Key", "by_address", "by_header", "reads_scope_alone"]

Key = Callable[[HTTPConnection], str | Awaitable[str | None] | None]
"""An identity, or `None` where the request shows none. A plain function must not block."""


_EARLY = "__prodkit_early__"


def reads_scope_alone(key: Key) -> bool:
    """Whether it gives the same before a route was found as after: a function of the user may read the
    path's parameters, or what another dependency left on the request's state."""
    return hasattr(key, _EARLY)


def by_address(trusted_proxies: TrustedProxies | Iterable[str] | int = (), *, ipv6_prefix: int = 64) -> Key:
    """The client's address, of IPv6 the network that one subscriber has.

    :param trusted_proxies: see `TrustedProxies`.
    :param ipv6_prefix: bits of an IPv6 address that tell clients apart.
    :raises ConfigurationError: for what cannot be read.
    """
    if count("ipv6_prefix", ipv6_prefix) > 128:
        raise ConfigurationError(f"ipv6_prefix={ipv6_prefix!r} is no length of a network: give 1 to 128")
    proxies = TrustedProxies.of(trusted_proxies)

    def address(connection: HTTPConnection) -> str | None:
        found = proxies.client(connection.scope)
        return found if found is None or ":" not in found else network(found, ipv6_prefix)

    setattr(address, _EARLY, True)
    return address


def by_header(name: str) -> Key:
    """The value of a header field, such as `x-api-key`. Whoever sends a new value gets a new budget: check
    it first, or limit by address as well."""

    field_name("name", name)

    def header(connection: HTTPConnection) -> str | None:
        return connection.headers.get(name)

    setattr(header, _EARLY, True)
    return header
