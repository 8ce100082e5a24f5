"""What was counted for somebody, looked at or forgotten from outside of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..typing import Charge
from .decision import Decision
from .keys import spelled
from .policy import Policies, Policy

if TYPE_CHECKING:
    from .limiter import RateLimiter
    from .rule import RateLimit

__all__ = ["forget", "look"]


async def look(limiter: RateLimiter, rules: Iterable[RateLimit], key: str) -> Decision:
    """What is left to an identity by these rules."""
    policies: list[Policy] = []
    charges: list[Charge] = []
    for identity, those in _by_identity(rules, key).items():
        found = await _policies_of(those, identity)
        policies += found
        limits = tuple(policy.limit for policy in found)
        charges.append(Charge(limiter.subject(identity), limits, 1, dry=True))
    return Decision(Policies(tuple(policies)), await limiter.counters.weigh(*charges))


async def forget(limiter: RateLimiter, rules: Iterable[RateLimit], key: str) -> None:
    """Forget what these rules counted for an identity, its bans too."""
    for identity, those in _by_identity(rules, key).items():
        limits = [policy.limit for policy in await _policies_of(those, identity)]
        limits += [limit for rule in those for limit in rule.ban_limits()]
        await limiter.counters.reset(limiter.subject(identity), tuple(limits))


def _by_identity(rules: Iterable[RateLimit], key: str) -> dict[str, list[RateLimit]]:
    """One address is not what another rule takes it for: of IPv6 a key may count a whole network."""
    found: dict[str, list[RateLimit]] = {}
    for rule in rules:
        found.setdefault(spelled(rule.key, key), []).append(rule)
    return found


async def _policies_of(rules: Iterable[RateLimit], identity: str) -> list[Policy]:
    found = {policy.limit.name: policy for rule in rules for policy in await rule.known(identity)}
    return list(found.values())
