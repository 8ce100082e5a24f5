"""What a client may ask of an answer (RFC 9111 section 5.2.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .entry import Entry
from .policy import Policy

__all__ = ["Control", "for_client", "wants_it_computed"]

Control = Mapping[str, str | None]


@dataclass(frozen=True)
class _ClientPolicy(Policy):
    """The policy of a route for a client to which not everything is fresh enough.

    :param oldest: the age from which on an answer is too old for it.
    :param left: how long it wants an answer to be fresh still.
    """

    oldest: float = math.inf
    left: float = 0.0

    def is_fresh(self, entry: Entry, now: float) -> bool:
        return super().is_fresh(entry, now) and self._is_enough(entry, now)

    def is_plainly_fresh(self, entry: Entry, now: float) -> bool:
        return super().is_plainly_fresh(entry, now) and self._is_enough(entry, now)

    def may_serve(self, entry: Entry, now: float) -> bool:
        return self.is_fresh(entry, now)

    def _is_enough(self, entry: Entry, now: float) -> bool:
        return now - entry.created <= self.oldest and entry.expires - now >= self.left


def for_client(policy: Policy, control: Control) -> Policy:
    """The policy for a client that says `max-age` or `min-fresh`."""
    oldest, left = _seconds(control, "max-age"), _seconds(control, "min-fresh")
    if oldest is None and left is None:
        return policy
    return _ClientPolicy(
        policy.ttl,
        stale_if_error=max(policy.stale, policy.stale_if_error),
        early=policy.early,
        oldest=math.inf if oldest is None else oldest,
        left=left or 0.0,
    )


def wants_it_computed(control: Control) -> bool:
    """Whether no stored answer will do, however new."""
    return "no-cache" in control or _seconds(control, "max-age") == 0


def _seconds(control: Control, name: str) -> float | None:
    text = control.get(name)
    return float(text) if text is not None and text.isdecimal() else None
