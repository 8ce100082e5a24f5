"""The header fields of draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651)."""

from __future__ import annotations

from collections.abc import Sequence

from .decision import ALMOST_ONE, Decision, whole_seconds

__all__ = ["fields"]


def fields(decisions: Sequence[Decision], *, legacy: bool) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit`, one item for each policy.

    :param legacy: add `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds) of the tightest policy.
    """
    if len(decisions) == 1 and not legacy and len(decisions[0].verdicts) == 1:
        [policy], [verdict] = decisions[0].policies.items, decisions[0].verdicts
        state = f'"{policy.name}";r={verdict[1]};t={int(verdict[2] + ALMOST_ONE)}'
        return [(b"ratelimit-policy", decisions[0].policies.field), (b"ratelimit", state.encode())]
    rules, states = [], []
    for decision in decisions:
        policies = decision.policies
        if policies.field:
            rules.append(policies.field)
        for policy, verdict in zip(policies.items, decision.verdicts, strict=True):
            if policy.field:
                reset = int(verdict[2] + ALMOST_ONE)
                states.append(f'"{policy.name}";r={verdict[1]};t={reset}')
    if not rules:
        return []
    found = [
        (b"ratelimit-policy", rules[0] if len(rules) == 1 else b", ".join(rules)),
        (b"ratelimit", ", ".join(states).encode()),
    ]
    return found + _legacy(decisions) if legacy else found


def _legacy(decisions: Sequence[Decision]) -> list[tuple[bytes, bytes]]:
    pairs = [
        (policy, verdict)
        for decision in decisions
        for policy, verdict in zip(decision.policies.items, decision.verdicts, strict=True)
    ]
    policy, verdict = min(pairs, key=lambda pair: (pair[1].admitted, pair[1].remaining))
    return [
        (b"x-ratelimit-limit", b"%d" % policy.limit.quota),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % whole_seconds(verdict.reset)),
    ]
