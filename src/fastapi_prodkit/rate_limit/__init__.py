"""Rate limits: several as one decision, counted exactly, told to clients by the draft's headers."""

from __future__ import annotations

from .bans import Ban
from .calendar import Calendar
from .decision import Decision
from .keys import Key, by_address, by_header
from .limiter import RateLimiter
from .middleware import RateLimitMiddleware
from .reservation import Reservation
from .rule import RateLimit

__all__ = [
    "Ban",
    "Calendar",
    "Decision",
    "Key",
    "RateLimit",
    "RateLimitMiddleware",
    "RateLimiter",
    "Reservation",
    "by_address",
    "by_header",
]
