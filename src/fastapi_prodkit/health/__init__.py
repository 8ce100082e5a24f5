"""Is the process alive, and may it get requests?"""

from __future__ import annotations

from .health import Health

__all__ = ["Health"]
