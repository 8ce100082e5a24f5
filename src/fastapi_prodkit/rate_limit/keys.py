"""Who a request counts for: functions from a connection to an identity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._arguments import count, field_name
from .._client import TrustedProxies, canonical, network
from ..errors import ConfigurationError

__all__ = ["Key", "by_address", "by_header", "of_scope", "spelled"]

Key = Callable[[HTTPConnection], str | Awaitable[str | None] | None]
"""An identity, or `None` where the request shows none. A plain function must not block."""


_OF_SCOPE = "__prodkit_of_scope__"
_SPELLED = "__prodkit_spelled__"


def of_scope(key: Key) -> Callable[[Scope], str | None] | None:
    """What comes to the same as `key` before a route was found; `None` for a function of the user, which may
    read the path's parameters, or what another dependency left on the request's state."""
    return getattr(key, _OF_SCOPE, None)


def spelled(key: Key, identity: str) -> str:
    """An identity as `key` would give it, so that one may be looked up as people write it."""
    spell: Callable[[str], str] | None = getattr(key, _SPELLED, None)
    return identity if spell is None else spell(identity)


def by_address(trusted_proxies: TrustedProxies | Iterable[str] | int = (), *, ipv6_prefix: int = 64) -> Key:
    """The client's address, of IPv6 the network that one subscriber has.

    :param trusted_proxies: see `TrustedProxies`.
    :param ipv6_prefix: bits of an IPv6 address that tell clients apart.
    :raises ConfigurationError: for what cannot be read.
    """
    if count("ipv6_prefix", ipv6_prefix) > 128:
        raise ConfigurationError(f"ipv6_prefix={ipv6_prefix!r} is no length of a network: give 1 to 128")
    proxies = TrustedProxies.of(trusted_proxies)

    def address(scope: Scope) -> str | None:
        found = proxies.client(scope)
        return found if found is None or ":" not in found else network(found, ipv6_prefix)

    key = _key(address)
    setattr(key, _SPELLED, lambda identity: network(canonical(identity) or identity, ipv6_prefix))
    return key


def by_header(name: str) -> Key:
    """The value of a header field, such as `x-api-key`. Whoever sends a new value gets a new budget: check
    it first, or limit by address as well."""

    field_name("name", name)

    def header(scope: Scope) -> str | None:
        return Headers(scope=scope).get(name)

    return _key(header)


def _key(read: Callable[[Scope], str | None]) -> Key:
    def key(connection: HTTPConnection) -> str | None:
        return read(connection.scope)

    setattr(key, _OF_SCOPE, read)
    return key
