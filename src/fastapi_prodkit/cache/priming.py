"""Cached endpoints learn the routes that lead to them while requests are answered."""

from __future__ import annotations

from typing import Any

from .._fastapi import iter_routes

__all__ = ["prime"]


def prime(app: Any) -> None:
    """Let every cached endpoint of `app` learn its routes."""
    for route in iter_routes(app.routes):
        cached = getattr(route.endpoint, "__prodkit_cached__", None)
        if cached is not None and cached.wrapper is route.endpoint:
            cached.attach_later(route)
