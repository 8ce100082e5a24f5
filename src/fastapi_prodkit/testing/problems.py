"""Does the app answer what its OpenAPI document says?"""

from __future__ import annotations

import inspect
import json
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.routing import compile_path

__all__ = ["assert_documented", "documented"]

C = TypeVar("C")


def documented(client: C, app: Any) -> C:
    """Make a test client fail at the first response that the OpenAPI document of `app` does not know.

        client = documented(TestClient(app), app)

    :param client: a `TestClient`, or an `httpx` client, sync or async.
    :param app: the FastAPI app it talks to.
    :raises AssertionError: from the request, naming the operation and what is missing.
    """
    tapped: Any = client  # httpx and httpx2 have no type in common

    def check(response: Any) -> None:
        if "problem+json" in response.headers.get("content-type", ""):
            response.read()
        assert_documented(response, app)

    async def check_async(response: Any) -> None:
        if "problem+json" in response.headers.get("content-type", ""):
            await response.aread()
        assert_documented(response, app)

    hook = check_async if inspect.iscoroutinefunction(tapped.send) else check
    hooks = tapped.event_hooks
    tapped.event_hooks = {**hooks, "response": [*hooks.get("response", ()), hook]}
    return client


def assert_documented(response: Any, app: Any) -> None:
    """Fail if the status, media type or problem type of a response is not in the OpenAPI document.

    A path that the document does not have is not judged.
    """
    found = _operation(app.openapi(), response.request.method, urlsplit(str(response.request.url)).path)
    if found is None:
        return
    name, operation, schema = found
    status, responses = str(response.status_code), operation.get("responses", {})
    known = responses.get(status) or responses.get(f"{status[0]}XX") or responses.get("default")
    assert known is not None, f"{name} answered {status}; its document lists {', '.join(responses)}"
    content = _resolve(known, schema).get("content", {})
    media_type = response.headers.get("content-type", "").partition(";")[0]
    assert not content or media_type in content or not media_type, (
        f"{name} answered {status} as {media_type}; its document lists {', '.join(content)}"
    )
    if media_type == "application/problem+json":
        types = _types(content[media_type].get("schema", {}), schema)
        kind = json.loads(response.content).get("type")
        assert None in types or kind in types, (
            f"{name} answered {status} with the problem {kind!r}; its document lists "
            f"{', '.join(sorted(map(str, types)))}"
        )


def _operation(schema: Any, method: str, path: str) -> tuple[str, Any, Any] | None:
    """The operation that a path belongs to: a literal template before one with parameters."""
    templates = sorted(schema.get("paths", {}), key=lambda template: template.count("{"))
    for template in templates:
        operation = schema["paths"][template].get(method.lower())
        if operation is not None and compile_path(template)[0].fullmatch(path):
            return f"{method} {template}", operation, schema
    return None


def _types(part: Any, schema: Any) -> set[str | None]:
    """The problem types that a schema admits; `None` for any."""
    part = _resolve(part, schema)
    if "anyOf" in part:
        return {kind for each in part["anyOf"] for kind in _types(each, schema)}
    kind = part.get("properties", {}).get("type", {}).get("const")
    return {kind}


def _resolve(part: Any, schema: Any) -> Any:
    while "$ref" in part:
        target = schema
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part
