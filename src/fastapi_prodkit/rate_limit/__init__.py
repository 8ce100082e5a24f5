"""Rate limits: several as one decision, counted exactly, told to clients by the draft's headers."""

from __future__ import annotations

from .decision import Decision
from .keys import Key, by_address, by_header
from .limiter import RateLimiter
from .middleware import RateLimitMiddleware
from .rule import RateLimit

__all__ = [
    "Decision",
    "Key",
    "RateLimit",
    "RateLimitMiddleware",
    "RateLimiter",
    "by_address",
    "by_header",
]
