"""A problem document as bytes: JSON for programs, HTML for a browser that asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

__all__ = ["HTML", "JSON", "MEDIA_TYPE", "Page", "ProblemResponse", "encode", "html_page", "wants_html"]

MEDIA_TYPE = "application/problem+json"
JSON = MEDIA_TYPE.encode()
HTML = b"text/html; charset=utf-8"

Page = Callable[[Mapping[str, Any]], str]
RawHeaders = list[tuple[bytes, bytes]]

_BODILESS = frozenset({204, 205, 304})
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_OURS = frozenset({"content-type", "content-length"})


class ProblemResponse(Response):
    """A body that is encoded already, with its header fields: half the cost of a `JSONResponse`.

    :param headers: what the exception asks for; the media type and the length are ours to say.
    :param more: fields that follow from the negotiation, such as `Vary`.
    """

    def __init__(
        self, status: int, body: bytes, media_type: bytes, headers: Mapping[str, str], more: RawHeaders
    ) -> None:
        self.status_code = status
        self.background = None
        raw: RawHeaders = []
        for name, value in headers.items():
            if (lower := name.lower()) not in _OURS and (field := _value(value)) is not None:
                raw.append((lower.encode("latin-1"), field))
        if status >= 200 and status not in _BODILESS:
            self.body = body
            raw.append((b"content-length", b"%d" % len(body)))
            raw.append((b"content-type", media_type))
            raw += more
        else:
            self.body = b""
        self.raw_headers = raw


def _value(given: object) -> bytes | None:
    """A header field's value; `None` for one that no field can hold, or that would begin another field."""
    text = str(given)
    return text.encode("latin-1") if _FIELD_VALUE.fullmatch(text) else None


def encode(document: Mapping[str, Any]) -> bytes:
    """The document as JSON. It never fails: a value that JSON cannot hold becomes `null`."""
    try:
        return to_json(document, fallback=_nothing)
    except ValueError:
        pass
    try:
        return json.dumps(document, skipkeys=True, default=_nothing).encode()
    except (ValueError, RecursionError):  # a value that contains itself, a number of too many digits
        return json.dumps({name: document[name] for name in ("type", "title", "status")}).encode()


def wants_html(accept: str) -> bool:
    """Whether a client asks for HTML and not for JSON: browsers do, programs do not."""
    return "text/html" in accept and "json" not in accept


def html_page(document: Mapping[str, Any]) -> str:
    """A plain page with the title, the detail and, in debug mode, the traceback."""
    title = escape(f"{document['status']} {document['title']}")
    parts = [f"<h1>{title}</h1>"]
    if detail := document.get("detail"):
        parts.append(f"<p>{escape(str(detail))}</p>")
    for error in document.get("errors") or ():
        if isinstance(error, Mapping):
            place = error.get("pointer") or error.get("parameter") or error.get("header") or ""
            parts.append(f"<p><code>{escape(str(place))}</code> {escape(str(error.get('detail')))}</p>")
    if lines := document.get("traceback"):
        parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _nothing(value: object) -> None:
    return None
