"""The rate limiter of an app: where counts are kept, and what its limits have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from starlette.requests import HTTPConnection

from .._client import TrustedProxies
from ..errors import ConfigurationError
from ..typing import Algorithm, Charge, Counters
from .decision import Decision
from .keys import Key, by_address
from .outage import Resilient
from .policy import Policy, digest
from .rule import Cost, RateLimit, Test

__all__ = ["RateLimiter"]


class RateLimiter:
    """Makes rate limits that count in one place.

    :param counters: where, such as `backend.counters`.
    :param key: who a request counts for; the client's address by default.
    :param trusted_proxies: networks or number of the proxies before the app, for the default key.
    :param ipv6_prefix: bits of an IPv6 address that tell clients apart, for the default key.
    :param without_key: what becomes of a request whose key is `None`: an `"error"` (500, the default), or
        one budget that all of them have `"shared"`. Never a way around the limit.
    :param on_outage: while the counters are away, count `"local"`ly in this process, or `"deny"`.
    :param max_keys: the most counts held in this process meanwhile.
    :param secret: makes the hashes of identities in the store useless to who reads it.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        key: Key | None = None,
        trusted_proxies: TrustedProxies | Iterable[str] | int = (),
        ipv6_prefix: int = 64,
        without_key: Literal["error", "shared"] = "error",
        on_outage: Literal["local", "deny"] = "local",
        max_keys: int = 100_000,
        secret: bytes = b"",
    ) -> None:
        if not 1 <= ipv6_prefix <= 128:
            raise ConfigurationError(f"ipv6_prefix={ipv6_prefix!r} is no length of a network: give 1 to 128")
        if without_key not in ("error", "shared"):
            raise ConfigurationError(f"without_key={without_key!r}: use 'error' or 'shared'")
        if len(secret) > 64:
            raise ConfigurationError("secret= is longer than 64 bytes: hash it first")
        self._counters = Resilient(counters, on_outage=on_outage, max_keys=max_keys)
        self._key = key or by_address(trusted_proxies, ipv6_prefix=ipv6_prefix)
        self._without_key = without_key
        self._digest = lru_cache(maxsize=8192)(lambda identity: digest(identity, key=secret))

    def __call__(
        self,
        limit: str,
        *,
        name: str | None = None,
        key: Key | None = None,
        cost: Cost = 1,
        burst: int | None = None,
        algorithm: Algorithm = "gcra",
        exempt: Test | None = None,
    ) -> RateLimit:
        """A limit for a route to depend on: `Depends(limiter("10/second;100/minute"))`.

        :param limit: in the grammar of the `limits` package; several are one decision.
        :param name: one budget for all routes that name it. Without a name each route has its own, by its
            method and path template.
        :param key: who a request counts for.
        :param cost: units that a request costs, or a function of it.
        :param burst: how many units may come at once (`gcra`); by default the quota.
        :param algorithm: `gcra`, `sliding` or `moving`.
        :param exempt: a function of the request that tells who is not limited.
        :raises ConfigurationError: for what cannot be read or can never admit anything.
        """
        return RateLimit(
            self,
            limit,
            name=name,
            key=key or self._key,
            cost=cost,
            burst=burst,
            algorithm=algorithm,
            exempt=exempt,
        )

    async def decide(self, rules: Sequence[tuple[RateLimit, str]], connection: HTTPConnection) -> Decision:
        """Weigh the rules as one; each comes with the scope in which it holds."""
        charges: list[Charge] = []
        policies: tuple[Policy, ...] = ()
        for rule, scope in rules:
            found = await rule.charge(connection, scope)
            if found is not None:
                policies += found[0]
                charges.append(found[1])
        return Decision(policies, await self._counters.weigh(*charges))

    def subject(self, identity: str | None) -> str:
        """The name under which an identity is counted.

        :raises ConfigurationError: for none, unless such requests share a budget.
        """
        if identity:
            return self._digest(identity)
        if self._without_key == "shared":
            return "-"
        raise ConfigurationError(
            "a request has no key to be limited by: name the unix socket or proxies in trusted_proxies=, let "
            "key= return something, or set without_key='shared'"
        )
