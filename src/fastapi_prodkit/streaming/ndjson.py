"""One JSON document a line: application/x-ndjson."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from ..errors import ProblemError
from .response import StreamResponse

__all__ = ["NDJSONResponse", "json_bytes"]


def json_bytes(item: Any) -> bytes:
    """JSON of anything that Pydantic can serialise, without a line break."""
    return to_json(item, by_alias=True, inf_nan_mode="null")


class NDJSONResponse(StreamResponse):
    """Each item is a line: `return NDJSONResponse(orders())`.

    An error after the first item is told by a last line that is a problem document (RFC 9457); a stop of
    the app by one with status 503.

    :param items: models, dataclasses, dictionaries: whatever Pydantic serialises.
    """

    media_type = "application/x-ndjson"

    def encoder(self) -> Callable[[Any], bytes]:
        return lambda item: json_bytes(item) + b"\n"

    def ending(self, problem: ProblemError) -> bytes:
        return json_bytes(problem.document()) + b"\n"
