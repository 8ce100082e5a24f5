"""The parts of a FastAPI service that decide whether it survives production.

Names are imported when they are first used: `import fastapi_prodkit` loads no third-party module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import TrustedProxies as TrustedProxies
    from .auth import Claims as Claims
    from .auth import JWTAuth as JWTAuth
    from .backends import MemoryBackend as MemoryBackend
    from .backends import backend_from_url as backend_from_url
    from .backends.redis import RedisBackend as RedisBackend
    from .backends.tiered import TieredBackend as TieredBackend
    from .cache import Cache as Cache
    from .cache import CacheMiddleware as CacheMiddleware
    from .errors import ConfigurationError as ConfigurationError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import ProblemError as ProblemError
    from .errors import ProdkitError as ProdkitError
    from .errors import UnavailableError as UnavailableError
    from .health import Health as Health
    from .problems import Problem as Problem
    from .problems import ProblemMiddleware as ProblemMiddleware
    from .problems import Problems as Problems
    from .problems import RemoteProblemError as RemoteProblemError
    from .problems import document_problems as document_problems
    from .problems import problem as problem
    from .problems import problem_pages as problem_pages
    from .problems import raise_for_problem as raise_for_problem
    from .problems import raises as raises
    from .rate_limit import RateLimiter as RateLimiter
    from .rate_limit import RateLimitMiddleware as RateLimitMiddleware
    from .request_logging import RequestLoggingMiddleware as RequestLoggingMiddleware
    from .request_logging import bind as bind
    from .request_logging import request_id as request_id
    from .resources import Provided as Provided
    from .resources import Resources as Resources
    from .streaming import CSVResponse as CSVResponse
    from .streaming import EventStreamResponse as EventStreamResponse
    from .streaming import NDJSONResponse as NDJSONResponse
    from .tasks import Tasks as Tasks
    from .tasks import TasksFullError as TasksFullError
    from .websocket import Hub as Hub

__version__ = "0.1.0"

_HOMES = {
    "_client": ("TrustedProxies",),
    "auth": ("Claims", "JWTAuth"),
    "backends": ("MemoryBackend", "backend_from_url"),
    "backends.redis": ("RedisBackend",),
    "backends.tiered": ("TieredBackend",),
    "cache": ("Cache", "CacheMiddleware"),
    "errors": (
        "ConfigurationError",
        "MissingExtraError",
        "ProblemError",
        "ProdkitError",
        "UnavailableError",
    ),
    "rate_limit": ("RateLimitMiddleware", "RateLimiter"),
    "request_logging": ("RequestLoggingMiddleware", "bind", "request_id"),
    "health": ("Health",),
    "resources": ("Provided", "Resources"),
    "streaming": ("CSVResponse", "EventStreamResponse", "NDJSONResponse"),
    "tasks": ("Tasks", "TasksFullError"),
    "websocket": ("Hub",),
    "problems": (
        "Problem",
        "ProblemMiddleware",
        "Problems",
        "problem",
        "RemoteProblemError",
        "document_problems",
        "problem_pages",
        "raise_for_problem",
        "raises",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
