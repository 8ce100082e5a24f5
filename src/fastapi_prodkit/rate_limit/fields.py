"""The header fields of draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651)."""

from __future__ import annotations

from collections.abc import Sequence

from .decision import ALMOST_ONE, Decision, whole_seconds

__all__ = ["fields"]


def fields(decisions: Sequence[Decision], *, legacy: bool) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit`, one item for each policy.

    :param legacy: add `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds) of the tightest policy.
    """
    rules, states = [], []
    for decision in decisions:
        policies = decision.policies
        if policies.field:
            rules.append(policies.field)
            states.append(policies.state % _left(decision))
    if not rules:
        return []
    found = [(b"ratelimit-policy", b", ".join(rules)), (b"ratelimit", b", ".join(states))]
    return found + _legacy(decisions) if legacy else found


def _left(decision: Decision) -> tuple[float, ...]:
    verdicts = decision.verdicts
    if not decision.policies.are_told:
        pairs = zip(decision.policies.items, verdicts, strict=True)
        verdicts = [verdict for policy, verdict in pairs if policy.field]
    left: list[float] = []
    for _, remaining, reset, _ in verdicts:
        left += (remaining, reset + ALMOST_ONE)
    return tuple(left)


def _legacy(decisions: Sequence[Decision]) -> list[tuple[bytes, bytes]]:
    pairs = [
        (policy, verdict)
        for decision in decisions
        for policy, verdict in zip(decision.policies.items, decision.verdicts, strict=True)
    ]
    bans = [verdict for policy, verdict in pairs if not (policy.field or verdict.admitted)]
    limits = [pair for pair in pairs if pair[0].field]
    policy, verdict = min(limits, key=lambda pair: (pair[1].admitted, pair[1].remaining))
    verdict = bans[0] if bans else verdict
    return [
        (b"x-ratelimit-limit", b"%d" % policy.limit.quota),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % whole_seconds(verdict.reset)),
    ]
