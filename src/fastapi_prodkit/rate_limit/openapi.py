"""The 429 of limited routes, in the app's OpenAPI document."""

from __future__ import annotations

from typing import Any

from .._fastapi import dependants, iter_routes, mounted_apps
from .decision import PROBLEM_TYPE
from .rule import RateLimit

__all__ = ["document"]

_INTEGER = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_FIELDS = {
    "RateLimit-Policy": {"description": "The limits in force: quota and window in seconds.", "schema": _TEXT},
    "RateLimit": {
        "description": "What is left of them, and seconds until all of it is back.",
        "schema": _TEXT,
    },
}
_RESPONSE: dict[str, Any] = {
    "description": "Too Many Requests",
    "headers": {
        "Retry-After": {"description": "Seconds after which the request is admitted.", "schema": _INTEGER},
        **_FIELDS,
    },
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "const": PROBLEM_TYPE},
                    "title": _TEXT,
                    "status": {"type": "integer", "const": 429},
                    "detail": _TEXT,
                    "violated-policies": {"type": "array", "items": _TEXT},
                },
                "required": ["type", "title", "status", "violated-policies"],
            }
        }
    },
}


def document(app: Any, *, everywhere: bool) -> None:
    """Let the documents of an app and of those mounted in it tell of the 429 and of the RateLimit headers.

    :param everywhere: whether every route is limited.
    """
    for each in (app, *mounted_apps(app)):
        if hasattr(each, "openapi"):
            _document(each, everywhere=everywhere)


def _document(app: Any, *, everywhere: bool) -> None:
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        schema: dict[str, Any] = describe()
        for route in iter_routes(app.routes):
            item = schema.get("paths", {}).get(route.path, {})
            if route.dependant is None or not (
                everywhere or any(isinstance(each.call, RateLimit) for each in dependants(route.dependant))
            ):
                continue
            for method in route.methods:
                responses = item.get(method.lower(), {}).get("responses")
                if responses is not None:
                    _describe(responses)
        return schema

    app.openapi = openapi


def _describe(responses: dict[str, Any]) -> None:
    responses.setdefault("429", _RESPONSE)
    for status, response in responses.items():
        if status.startswith("2") and "$ref" not in response:
            response["headers"] = {**_FIELDS, **response.get("headers", {})}
