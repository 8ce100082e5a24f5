"""How long the parts of a request took, for its record and, opted in, for the client's developer tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from .context import current

__all__ = ["server_timing", "timed"]

_NOT_TOKEN = re.compile(r"[^A-Za-z0-9_.-]")


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the seconds spent inside to the request's part `name`; outside of a request it does nothing.

    Parts are in the access record as `timings`, and in the `Server-Timing` header those that ended before
    the response started.
    """
    context = current.get()
    start = perf_counter()
    try:
        yield
    finally:
        if context is not None:
            timings = context.timings = context.timings or {}
            timings[name] = timings.get(name, 0.0) + perf_counter() - start


def server_timing(total: float, parts: Mapping[str, float]) -> bytes:
    """The value of a `Server-Timing` header (W3C Server Timing), in milliseconds."""
    named = {"app": total, **parts}
    text = ", ".join(f"{_NOT_TOKEN.sub('_', name)};dur={spent * 1000:.2f}" for name, spent in named.items())
    return text.encode("ascii")
