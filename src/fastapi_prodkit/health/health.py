"""Two questions that an orchestrator asks, as routes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.requests import Request
from fastapi.responses import JSONResponse

from .._arguments import instance, seconds, text
from .._shutdown import Shutdown
from ..errors import ConfigurationError, ProblemError
from .check import Check, CheckFunction

__all__ = ["Health"]

_HEADERS = {"Cache-Control": "no-store"}


class Health(APIRouter):
    """A router with `/health/live` and `/health/ready`: `app.include_router(Health({"database": ping}))`.

    *Live* is 200 while the event loop turns; a failing database must not restart the process. *Ready* is 200
    while every check passes and the app is not about to stop, and else a 503 problem document
    (RFC 9457) that names the failed checks, never their errors.

    :param checks: async functions by name; one that raises or returns `False` has failed.
    :param timeout: seconds that the checks may take; they run side by side.
    :param prefix: goes before both paths.
    :param include_in_schema: whether the routes appear in OpenAPI.
    :raises ConfigurationError: for a check that is no async function, or a timeout that is no time.
    """

    def __init__(
        self,
        checks: Mapping[str, CheckFunction] | None = None,
        *,
        timeout: float = 2.0,
        prefix: str = "/health",
        include_in_schema: bool = False,
    ) -> None:
        seconds("timeout", timeout, endless=True)
        if text("prefix", prefix) and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigurationError(f"prefix={prefix!r}: write it as '/health', or '' for none")
        instance("checks", checks or {}, Mapping, 'name each, as in Health({"database": ping})')
        for name, ask in (checks or {}).items():
            text("checks", name)
            if not _is_async(ask):
                raise ConfigurationError(f"the check {name!r} is no async function: write `async def`")
        super().__init__(prefix=prefix, include_in_schema=include_in_schema, tags=["health"])
        self._checks = [Check(name, ask, timeout=timeout) for name, ask in (checks or {}).items()]
        for path, answer in (("/live", self._live), ("/ready", self._ready)):
            self.add_api_route(path, answer, methods=["GET"])
            self.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)

    async def _live(self) -> JSONResponse:
        return JSONResponse({"status": "pass"}, headers=_HEADERS)

    async def _ready(self, request: Request) -> JSONResponse:
        shutdown = Shutdown.of(request.scope)
        if shutdown is not None and shutdown.begun:
            return _refusal("The app is about to stop.", {})
        answers = await asyncio.gather(*(check.run() for check in self._checks))
        results = {check.name: answer for check, answer in zip(self._checks, answers, strict=True)}
        failed = [name for name, result in results.items() if result != "pass"]
        if failed:
            return _refusal(f"Not well: {', '.join(failed)}.", results)
        return JSONResponse({"status": "pass", "checks": results}, headers=_HEADERS)


def _refusal(detail: str, results: Mapping[str, str]) -> JSONResponse:
    """Answered, not raised: a probe gets the document whatever handles errors, and logs no error."""
    problem = ProblemError(503, detail, title="Not Ready", checks=results)
    return JSONResponse(problem.document(), 503, headers=_HEADERS, media_type="application/problem+json")


def _is_async(ask: Any) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(type(ask).__call__)
