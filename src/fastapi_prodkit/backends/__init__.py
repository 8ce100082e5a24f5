"""The places where components keep things: this process's memory, or a Redis-protocol server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .memory import MemoryBackend

if TYPE_CHECKING:
    from .redis import RedisBackend

__all__ = ["MemoryBackend", "backend_from_url"]

_REDIS_SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)


def backend_from_url(url: str, **options: Any) -> MemoryBackend | RedisBackend:
    """The backend that `url` names, with its keyword options.

    :param url: `memory://`, `redis://host:6379/0`, `rediss://...` (TLS), `unix:///path.sock`,
        `redis+sentinel://host:26379,host:26379/service/0` or `redis+cluster://host:6379,host:6380`;
        `rediss+sentinel://` and `rediss+cluster://` with TLS.
    :raises ConfigurationError: for no URL, or a scheme that no backend has.
    :raises MissingExtraError: if the client library for it is not installed.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"the URL is a {type(url).__name__}: give a string, such as memory://")
    before, separator, _ = url.partition("://")
    scheme = before.lower() if separator else ""  # of a URL that is none nothing is repeated
    if scheme == "memory":
        return MemoryBackend(**options)
    if scheme in _REDIS_SCHEMES:
        from .redis import RedisBackend

        return RedisBackend(url, **options)
    raise ConfigurationError(
        f"no backend for the URL scheme {scheme!r}: use memory:// or one of "
        + ", ".join(f"{each}://" for each in _REDIS_SCHEMES)
    )
