"""Rooms of sockets."""

from __future__ import annotations

from .hub import Hub
from .socket import Socket

__all__ = ["Hub", "Socket"]
