"""How a record is written: each format is a function from a record to one line, without its line break."""

from __future__ import annotations

from .encoding import json_line
from .record import Record

__all__ = ["otel"]


def otel(record: Record) -> bytes:
    """JSON, flat, by OpenTelemetry's names."""
    return json_line(record)
