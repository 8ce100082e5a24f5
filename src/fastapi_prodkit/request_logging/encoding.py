"""From a record to one line of ASCII: whatever is in the record, and without raising."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from pydantic_core import to_json

__all__ = ["json_line", "plain"]

_PLAIN = (str, int, float, bool, type(None))


def json_line(document: dict[str, Any]) -> bytes:
    """The document as JSON, without a line break, in ASCII.

    Beyond ASCII there are characters that a reader may take for a line break (U+0085, U+2028).
    """
    try:
        line = to_json(document, inf_nan_mode="strings", fallback=str)
    except Exception:
        line = b"\xff"
    if line.isascii() and b"\x7f" not in line:
        return line
    return _careful(document)


def _careful(document: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(document, separators=(",", ":"), default=plain, allow_nan=False)
    except Exception:
        text = json.dumps({str(key): plain(value) for key, value in document.items()})
    return text.replace("\x7f", "\\u007f").encode("ascii")


def plain(value: object, *, text: bool = False) -> Any:
    """The value if JSON has it, otherwise its text; never raises.

    :param text: its text in any case.
    """
    if isinstance(value, _PLAIN) and not text and not (isinstance(value, float) and not isfinite(value)):
        return value
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
