"""The OpenAPI document tells the truth about errors: problems, in `application/problem+json`."""

from __future__ import annotations

import json
from collections import defaultdict
from copy import deepcopy
from typing import Any

from .._fastapi import iter_routes
from ..errors import phrase
from .emitted import emitted
from .registry import Problem, Problems
from .rendering import MEDIA_TYPE

__all__ = ["document_problems"]

_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details for HTTP APIs (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
    },
    "additionalProperties": True,
}
_VALIDATION_PROBLEM: dict[str, Any] = {
    "title": "ValidationProblem",
    "description": "The request does not match its schema; `errors` says where.",
    "allOf": [{"$ref": "#/components/schemas/Problem"}],
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail", "code"],
                "properties": {
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "parameter": {"type": "string"},
                    "header": {"type": "string"},
                    "cookie": {"type": "string"},
                },
            },
        },
        "omitted": {"type": "integer", "description": "How many more errors there are."},
    },
}
_FASTAPIS = ("HTTPValidationError", "ValidationError")


def document_problems(app: Any, *, problems: Problems | None = None) -> None:
    """Add to each operation of `app.openapi()` the problems that it can emit.

    `ProblemMiddleware` does it when the app starts. Call it yourself where the document is generated
    without the app being started. To call it again does nothing.
    """
    if not isinstance(app.openapi, _Document):
        app.openapi = _Document(app, problems or Problems())


class _Document:
    """Stands in for `app.openapi`."""

    def __init__(self, app: Any, problems: Problems) -> None:
        self._app = app
        self._problems = problems
        self._original = app.openapi
        self._done: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        schema: dict[str, Any] = self._original()
        if schema is not self._done:
            self._add_to(schema)
            self._done = schema
        return schema

    def _add_to(self, schema: dict[str, Any]) -> None:
        paths = schema.get("paths", {})
        for route in iter_routes(self._app.routes):
            operations = paths.get(route.path, {}) if not route.mount else {}
            for method in route.methods:
                operation = operations.get(method.lower())
                if operation is not None:
                    self._describe(operation, emitted(route, self._problems, app=self._app))
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(deepcopy({"Problem": _PROBLEM, "ValidationProblem": _VALIDATION_PROBLEM}))
        for name in _FASTAPIS:
            if f'"#/components/schemas/{name}"' not in json.dumps(schema):
                schemas.pop(name, None)
        schema["components"]["schemas"] = dict(sorted(schemas.items()))

    def _describe(self, operation: dict[str, Any], problems: list[Problem]) -> None:
        responses = operation.setdefault("responses", {})
        by_status: dict[int, list[Problem]] = defaultdict(list)
        for each in problems:
            by_status[each.status].append(each)
        if _is_fastapis_own(responses.get("422")):
            responses["422"] = _response(phrase(422), {"$ref": "#/components/schemas/ValidationProblem"})
        for status, kinds in by_status.items():
            description = "; ".join(dict.fromkeys(kind.title for kind in kinds))
            self._merge(responses, str(status), _response(description, self._schema(status, kinds)))
        for status, response in responses.items():
            if status[0] in "45" and "content" not in response and "$ref" not in response:
                response["content"] = _response("", {"$ref": "#/components/schemas/Problem"})["content"]
        operation["responses"] = dict(sorted(responses.items()))

    def _schema(self, status: int, kinds: list[Problem]) -> dict[str, Any]:
        schemas = [self._schema_of(status, kind) for kind in kinds]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def _schema_of(self, status: int, kind: Problem) -> dict[str, Any]:
        base = {"$ref": "#/components/schemas/Problem"}
        if kind.type == "about:blank":
            return base
        properties: dict[str, Any] = {
            "type": {"const": self._problems.uri(kind.type)},
            "status": {"const": status},
            **{name: {} for name in kind.members},
        }
        schema: dict[str, Any] = {"title": kind.title, "allOf": [base], "properties": properties}
        if kind.members:
            schema["required"] = list(kind.members)
        return schema

    @staticmethod
    def _merge(responses: dict[str, Any], status: str, response: dict[str, Any]) -> None:
        """What the user wrote about a status stays; the problem stands beside it."""
        written = responses.setdefault(status, response)
        if written is response or "$ref" in written:
            return
        content = written.setdefault("content", {})
        theirs = content.get(MEDIA_TYPE)
        ours = response["content"][MEDIA_TYPE]
        if theirs is None:
            content[MEDIA_TYPE] = ours
        elif theirs != ours:
            content[MEDIA_TYPE] = {"schema": {"anyOf": [theirs.get("schema", {}), ours["schema"]]}}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def _is_fastapis_own(response: Any) -> bool:
    return "#/components/schemas/HTTPValidationError" in json.dumps(response)
