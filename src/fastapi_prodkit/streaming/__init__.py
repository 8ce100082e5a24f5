"""Bodies of any length in flat memory: NDJSON, server-sent events and CSV."""

from __future__ import annotations

from .csv import CSVResponse
from .ndjson import NDJSONResponse
from .sse import EventStreamResponse

__all__ = ["CSVResponse", "EventStreamResponse", "NDJSONResponse"]
