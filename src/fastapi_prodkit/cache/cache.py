"""The cache as an app sees it."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar, overload

from .._arguments import count, field_name, function, instance, names, seconds, text
from ..backends.memory import MemoryStore
from ..errors import ConfigurationError
from ..typing import Store
from .codec import Codec, JSONCodec, codec_for
from .decorator import Decorator
from .engine import Engine
from .function import Values
from .identity import digest, identity
from .options import Options
from .policy import Policy
from .route import CachedRoute
from .stamps import stamp_key

__all__ = ["Cache"]

P = ParamSpec("P")
R = TypeVar("R")

_MEBIBYTE = 1024 * 1024
_CODEC = "give an object with encode(value) and decode(data)"


class Cache:
    """Caches the responses of routes and the values of functions.

        cache = Cache(backend.store)

        @app.get("/items/{item_id}")
        @cache(ttl=60, tags=["items", "item:{item_id}"])
        async def get_item(item_id: int) -> Item: ...

    :param store: where answers are kept; this process's memory if none is given.
    :param namespace: sets apart caches that share a store. Change it when stored answers must not be used any
        more, as after a deployment that changed their shape.
    :param max_bytes: the largest body that is kept, in bytes.
    :param compress_above: the size from which on a body is compressed in the store, in bytes; by default none
        is. It takes about 10 ms of the event loop per megabyte.
    :param lease: seconds after which another process takes over from one that was killed while computing.
    :param obeys_clients: whether `Cache-Control: no-cache`, `no-store`, `max-age` and `min-fresh` of a
        request are obeyed: then any client can have answers computed at will.
    :param clock: the wall clock, in seconds.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        namespace: str = "",
        max_bytes: int = _MEBIBYTE,
        compress_above: float = math.inf,
        lease: float = 5.0,
        obeys_clients: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if store is not None and not isinstance(store, Store):
            raise ConfigurationError(
                f"{type(store).__name__} is no Store: hand over the store of a backend, as in "
                "Cache(backend.store)"
            )
        seconds("lease", lease)
        if compress_above != math.inf:
            count("compress_above", compress_above, least=0)
        function("clock", clock)
        self._engine = Engine(
            store if store is not None else MemoryStore(),
            namespace=text("namespace", namespace),
            lease=lease,
            compress_above=compress_above,
            clock=clock,
        )
        self._namespace = namespace
        self._max_bytes = count("max_bytes", max_bytes)
        self._obeys_clients = obeys_clients
        self._off = 0

    def __call__(
        self,
        *,
        ttl: float,
        stale: float = 0.0,
        stale_if_error: float = 0.0,
        early: float = 1.0,
        jitter: float = 0.0,
        tags: Iterable[str] = (),
        shared: bool = False,
        vary: Iterable[str] = (),
        key: Callable[..., Any] | None = None,
        methods: Iterable[str] = ("GET", "HEAD"),
        max_age: float = 0.0,
        codec: Codec | None = None,
        name: str | None = None,
    ) -> Decorator:
        """A decorator for a route, directly above its `def`, or for a function or a method.

        :param ttl: seconds for which an answer is fresh.
        :param stale: seconds after that in which it is served at once while one refresh runs behind.
        :param stale_if_error: seconds after `ttl` in which it is served where computing a new one fails.
        :param early: how eagerly a refresh runs before the end, in units of its measured cost; 0 never.
        :param jitter: the fraction of `ttl` taken off at random.
        :param tags: names to invalidate by; `{argument}` stands for an argument of the function.
        :param shared: one answer for everybody: credentials do not count, and whoever takes the raw request
            is trusted to read nothing of it but the URL. Dependencies still run for every request.
        :param vary: further request header fields that count.
        :param key: takes arguments by name and returns what counts, instead of all arguments (of a function)
            or instead of credentials (of a route).
        :param methods: the HTTP methods to cache.
        :param max_age: seconds for which clients need not ask again; 0 has them ask with the ETag each time,
            so that they see an invalidation at once.
        :param codec: how values of a function are stored, instead of as JSON by the return annotation.
        :param name: what the function is called in keys; by default its module and qualified name.
        :raises ConfigurationError: for an option that cannot work.
        """
        options = Options(
            namespace=self._namespace,
            policy=Policy(ttl, stale, stale_if_error, early, jitter),
            tags=names("tags", tags),
            is_shared=shared or key is not None,
            is_grouped=key is not None and not shared,
            vary=tuple(field_name("vary", name).decode() for name in names("vary", vary)),
            methods=frozenset(method.upper() for method in names("methods", methods)),
            max_age=seconds("max_age", max_age, zero=True),
            max_bytes=self._max_bytes,
            obeys_clients=self._obeys_clients,
            is_disabled=self._is_disabled,
        )
        if key is not None:
            function("key", key)
        if codec is not None:
            instance("codec", codec, Codec, _CODEC)
        if name is not None and not text("name", name):
            raise ConfigurationError("name='' names nothing: leave it out for the function's own")
        return Decorator(self._engine, options, key=key, codec=codec, name=name)

    @overload
    async def invalidate(self, cached: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    @overload
    async def invalidate(self, /, *, tag: str) -> bool: ...
    async def invalidate(self, cached: Any = None, /, *args: Any, **kwargs: Any) -> bool:
        """Forget the answers of a route or function for these arguments, or those that have a tag.

        The path parameters of a route name its resource: every variant of it (query, headers, users) is
        forgotten. Whoever asks after it returned gets nothing that was computed from before.

        :return: whether it is done everywhere; `False` while the store is away.
        :raises ConfigurationError: if `cached` is not cached here, or arguments are missing.
        """
        if cached is None:
            if args or kwargs.keys() != {"tag"}:
                raise ConfigurationError(
                    "say what to forget: invalidate(get_item, item_id=3) for a cached route or function, "
                    "invalidate(tag='items') or invalidate_tags('items', 'prices')"
                )
            return await self.invalidate_tags(text("tag", kwargs["tag"]))
        route = self._route(cached)
        if inspect.ismethod(cached) and (args or kwargs):
            args = (cached.__self__, *args)
        return await self._engine.renew(route.stamps_of(args, kwargs))

    async def invalidate_tags(self, *tags: str) -> bool:
        """Forget every answer that has one of the tags, in one round trip."""
        return await self._engine.renew(
            [stamp_key(self._namespace, "tag", tag) for tag in names("tags", tags)]
        )

    async def clear(self, cached: Callable[..., Any] | None = None) -> bool:
        """Forget everything in this cache's namespace, or all of one route or function, in one round trip."""
        if cached is not None:
            return await self._engine.renew(self._route(cached).stamps_of((), {}))
        return await self._engine.renew([stamp_key(self._namespace, "all")])

    async def get_or_set(
        self,
        key: str | tuple[Any, ...],
        compute: Callable[[], Awaitable[R]],
        *,
        ttl: float,
        type: Any = None,
        stale: float = 0.0,
        stale_if_error: float = 0.0,
        early: float = 0.0,
        tags: Iterable[str] = (),
        codec: Codec | None = None,
    ) -> R:
        """The value kept under `key`, or else what `compute()` returns.

        With `stale` or `early` it may run once more after this call has returned: then it must not use what
        is closed by then, such as the database session of a request.

        :param type: the type of the value, where `compute` is not annotated.
        :raises ConfigurationError: if the value cannot be stored.
        """
        begin = partial(_begin, function("compute", compute))
        if self._off:
            return await begin()
        name = f"the value of get_or_set({key!r})"
        if codec is None:
            codec = (
                JSONCodec(type, name) if type is not None else codec_for(compute, _return_of(compute), name)
            )
        else:
            instance("codec", codec, Codec, _CODEC)
        policy = Policy(ttl, stale, stale_if_error, early)
        stamps = [stamp_key(self._namespace, "all")]
        stamps += [stamp_key(self._namespace, "tag", tag) for tag in names("tags", tags)]
        value: R = await Values(self._engine, max_bytes=self._max_bytes).obtain(
            f"cache:loose:{digest((self._namespace, identity(key)))}",
            tuple(stamps),
            policy,
            ttl,
            codec,
            begin,
        )
        return value

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, everything is computed and nothing is kept."""
        self._off += 1
        try:
            yield
        finally:
            self._off -= 1

    @contextmanager
    def isolated(self, store: Store | None = None) -> Iterator[Self]:
        """Inside, everything is kept in `store`, by default an empty memory: for a test of its own.

        A cache that is a global of an app under test forgets nothing outside, and finds nothing inside.
        """
        before = self._engine.store
        self._engine.use(store if store is not None else MemoryStore())
        try:
            yield self
        finally:
            self._engine.use(before)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._engine.close()

    def _route(self, cached: Any) -> CachedRoute:
        route = getattr(cached, "__prodkit_cached__", None)
        if not isinstance(route, CachedRoute) or route.engine is not self._engine:
            raise ConfigurationError(
                f"{cached!r} is not decorated by this cache: give a function below its @cache(...), or tag="
            )
        return route

    def _is_disabled(self) -> bool:
        return self._off > 0


def _begin(compute: Callable[[], Awaitable[R]]) -> Awaitable[R]:
    begun = compute()
    if not inspect.isawaitable(begun):
        raise ConfigurationError(f"compute={compute!r} returned nothing to await: give an async function")
    return begun


def _return_of(function: Callable[..., Any]) -> dict[str, Any]:
    hint = getattr(function, "__annotations__", {}).get("return", Any)
    return {"return": Any if isinstance(hint, str) else hint}
