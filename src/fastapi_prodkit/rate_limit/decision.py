"""What was decided for a request, and how a client is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ProblemError
from ..typing import Verdict
from .policy import Policies

__all__ = ["ALMOST_ONE", "PROBLEM_TYPE", "Decision", "whole_seconds"]

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"

ALMOST_ONE = 1 - 2e-6  # an admission at the very moment promised must not be put off by a second


class Decision:
    """The verdicts of all policies that hold for a request."""

    __slots__ = ("admitted", "policies", "verdicts")

    def __init__(self, policies: Policies, verdicts: Sequence[Verdict]) -> None:
        self.policies = policies
        self.verdicts = verdicts
        self.admitted = True
        for verdict in verdicts:
            if not verdict[0]:
                self.admitted = False

    @property
    def remaining(self) -> float:
        """Units left by the policy that has the least; `math.inf` where no policy holds."""
        pairs = zip(self.policies.items, self.verdicts, strict=True)
        told = (verdict.remaining for policy, verdict in pairs if policy.field or not verdict.admitted)
        return min(told, default=math.inf)

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which the same request is admitted (RFC 9110, section 10.2.3); `None` where
        it never will be. 0 for what was admitted."""
        wait = max((verdict.retry for verdict in self.verdicts), default=0.0)
        return None if math.isinf(wait) else whole_seconds(wait)

    def update(self, policies: Policies, verdicts: Sequence[Verdict]) -> None:
        """Take newer verdicts for some of its policies; what was decided stays decided."""
        newer = {id(policy): verdict for policy, verdict in zip(policies.items, verdicts, strict=False)}
        pairs = zip(self.policies.items, self.verdicts, strict=True)
        self.verdicts = [newer.get(id(policy), verdict) for policy, verdict in pairs]

    def refusal(self) -> ProblemError:
        """The 429 (RFC 6585, section 4) of draft-ietf-httpapi-ratelimit-headers."""
        wait = self.retry_after
        violated: Any = [
            policy.name
            for policy, verdict in zip(self.policies.items, self.verdicts, strict=True)
            if not verdict.admitted
        ]
        when = f"Try again in {wait} s." if wait is not None else "This request is too large for the quota."
        return ProblemError(
            429,
            f"The quota is used up. {when}" if wait is not None else when,
            type=PROBLEM_TYPE,
            headers={"Retry-After": str(wait)} if wait is not None else None,
            **{"violated-policies": violated},
        )


def whole_seconds(seconds: float) -> int:
    """Rounded up: a client that waits so long has waited long enough."""
    return int(seconds + ALMOST_ONE)
