"""What an app needs open while it runs: started in order, injected by type, closed in reverse."""

from __future__ import annotations

from .provided import Provided
from .resources import Resources
from .stack import StartTimeoutError

__all__ = ["Provided", "Resources", "StartTimeoutError"]
