"""The header fields of draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651)."""

from __future__ import annotations

from collections.abc import Sequence

from .decision import Decision, whole_seconds

__all__ = ["fields"]


def fields(decisions: Sequence[Decision], *, legacy: bool) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit`, one item for each policy.

    :param legacy: add `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds) of the tightest policy.
    """
    rules, states = [], []
    for decision in decisions:
        for policy, verdict in zip(decision.policies, decision.verdicts, strict=True):
            if not policy.field:
                continue
            rules.append(policy.field)
            states.append(f'"{policy.name}";r={verdict.remaining};t={whole_seconds(verdict.reset)}')
    if not rules:
        return []
    found = [
        (b"ratelimit-policy", ", ".join(rules).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]
    return found + _legacy(decisions) if legacy else found


def _legacy(decisions: Sequence[Decision]) -> list[tuple[bytes, bytes]]:
    pairs = [
        (policy, verdict)
        for decision in decisions
        for policy, verdict in zip(decision.policies, decision.verdicts, strict=True)
    ]
    policy, verdict = min(pairs, key=lambda pair: (pair[1].admitted, pair[1].remaining))
    return [
        (b"x-ratelimit-limit", b"%d" % policy.limit.quota),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % whole_seconds(verdict.reset)),
    ]
