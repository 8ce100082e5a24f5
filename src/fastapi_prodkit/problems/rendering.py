"""A problem document as bytes: JSON for programs, HTML for a browser that asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from fastapi.utils import is_body_allowed_for_status_code
from pydantic_core import to_json
from starlette.responses import Response

from .answers import Answer

__all__ = ["MEDIA_TYPE", "Page", "encode", "html_page", "render", "wants_html"]

MEDIA_TYPE = "application/problem+json"

Page = Callable[[Mapping[str, Any]], str]

_OURS = frozenset({"content-type", "content-length"})


def render(answer: Answer, *, page: Page | None) -> Response:
    """The response for an answer.

    :param page: draws the document for a browser; `None` for JSON.
    """
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in _OURS}
    if not is_body_allowed_for_status_code(answer.status):
        return Response(status_code=answer.status, headers=headers)
    if page is not None:
        body = page(answer.document).encode("utf-8", "replace")
        return Response(body, answer.status, headers, "text/html; charset=utf-8")
    return Response(encode(answer.document), answer.status, headers, MEDIA_TYPE)


def encode(document: Mapping[str, Any]) -> bytes:
    """The document as JSON. It never fails: a value that JSON cannot hold becomes `null`."""
    try:
        return to_json(document, fallback=lambda value: None)
    except ValueError:
        return json.dumps(document, skipkeys=True, default=lambda value: None).encode()


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
