"""Why a request is none of the cache's, in the words of Cache-Status (RFC 9211)."""

from __future__ import annotations

from .http import Asked
from .inputs import Inputs
from .options import Options

__all__ = ["bypass", "why_not"]


def why_not(options: Options, method: str, inputs: Inputs, asked: Asked) -> tuple[str, ...] | None:
    """`None` where nothing speaks against an answer from the cache."""
    if options.is_disabled():
        return bypass("disabled")
    if method not in options.methods:
        return ("fwd=method",)
    if asked.range:
        return bypass("range")
    if inputs.readers and not options.is_shared:
        return bypass(f"{inputs.readers[0]} reads the raw request")
    if options.obeys_clients and "no-store" in asked.control:
        return ("fwd=request",)
    return None


def bypass(reason: str) -> tuple[str, ...]:
    return "fwd=bypass", f'detail="{reason}"'
