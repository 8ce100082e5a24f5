"""What was decided for a request, and how a client is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ProblemError
from ..typing import Verdict
from .policy import Policy

__all__ = ["PROBLEM_TYPE", "Decision"]

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"

_ROUNDING = 2e-6  # seconds; an admission at the very moment promised must not be put off by one


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdicts of all policies that hold for a request."""

    policies: tuple[Policy, ...]
    verdicts: Sequence[Verdict]

    @property
    def admitted(self) -> bool:
        return all(verdict.admitted for verdict in self.verdicts)

    @property
    def remaining(self) -> float:
        """Units left by the policy that has the least; `math.inf` where no policy holds."""
        return min((verdict.remaining for verdict in self.verdicts), default=math.inf)

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which the same request is admitted (RFC 9110, section 10.2.3); `None` where
        it never will be. 0 for what was admitted."""
        wait = max((verdict.retry for verdict in self.verdicts), default=0.0)
        return None if math.isinf(wait) else whole_seconds(wait)

    def updated(self, policies: tuple[Policy, ...], verdicts: Sequence[Verdict]) -> Decision:
        """The decision with newer verdicts for some of its policies."""
        newer = dict(zip((policy.name for policy in policies), verdicts, strict=False))
        pairs = zip(self.policies, self.verdicts, strict=True)
        return Decision(self.policies, [newer.get(policy.name, verdict) for policy, verdict in pairs])

    def refusal(self) -> ProblemError:
        """The 429 (RFC 6585, section 4) of draft-ietf-httpapi-ratelimit-headers."""
        wait = self.retry_after
        violated: Any = [
            policy.name
            for policy, verdict in zip(self.policies, self.verdicts, strict=True)
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
    return max(0, math.ceil(seconds - _ROUNDING))
