"""Every argument of every public constructor: what cannot be meant is refused by its name, with the mend.

An option that is added to a constructor fails here until its bad values are tried, or a reason is given why
it has none.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, get_args, get_type_hints

import pytest
from fastapi import FastAPI

import fastapi_prodkit
from fastapi_prodkit import (
    Cache,
    CacheMiddleware,
    ConfigurationError,
    CSVResponse,
    EventStreamResponse,
    Health,
    Hub,
    JWTAuth,
    MemoryBackend,
    NDJSONResponse,
    Problem,
    ProblemError,
    ProblemMiddleware,
    Problems,
    RateLimiter,
    RateLimitMiddleware,
    RedisBackend,
    RequestLoggingMiddleware,
    Resources,
    Tasks,
    TieredBackend,
    TrustedProxies,
    problem,
)
from fastapi_prodkit.auth import cookie, query
from fastapi_prodkit.backends.memory import MemoryBus, MemoryCounters, MemoryStore
from fastapi_prodkit.problems import raises
from fastapi_prodkit.rate_limit import Ban, by_address
from fastapi_prodkit.request_logging import Bodies, FlightRecorder, LineFormatter, QueueSink

SECRET = "u8Zq0kQm3v7yXc1Jb5Wn9Ts2Lf6Rd4Hg"
PLACE = MemoryBackend()

# --- bad values, by the kind of option ---

NOT_SECONDS = [-1, math.nan, True, "60", None]
SECONDS = [0, *NOT_SECONDS]  # infinity is allowed where somebody waits for another
FINITE = [math.inf, *SECONDS]
NOT_COUNTS = [-1, 1.5, math.nan, math.inf, True, "5", None]
COUNT = [0, *NOT_COUNTS]
FUNCTION = [object(), "time", 5]
NAMES = ["one string", 5, [5]]
TEXT = [5, None, b"bytes"]

# --- how each is made, in one line, and what is tried ---


async def _items() -> AsyncIterator[int]:
    yield 1


async def _value(item_id: int = 1) -> int:
    return item_id


NOT_ITEMS = ["a text", b"bytes", bytearray(b"bytes"), 5, _items, {"number": 1}]


def _installed(middleware: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **options: middleware(FastAPI().build_middleware_stack(), **options)


def _loose(compute: Any = _value, **options: Any) -> Any:
    return asyncio.run(Cache().get_or_set("key", compute, **{"ttl": 1, **options}))


def _declare(**options: Any) -> Any:
    return problem(**{"status": 409, **options})(type("Error", (Exception,), {}))


_PROBLEM: dict[str, list[Any]] = {
    "status": [200, 600, *NOT_COUNTS],
    "type": ["", "two words", *TEXT],
    "title": TEXT,
    "detail": [5, b"bytes"],
    "members": [["status"], *NAMES],
    "headers": [5, ["a"]],
    "close_code": [1006, 999, 5000, *NOT_COUNTS],
    "description": TEXT,
}

_Tried = tuple[Callable[..., Any], Callable[..., Any], dict[str, list[Any]]]

TRIED: dict[str, _Tried] = {
    "MemoryBackend": (
        MemoryBackend,
        MemoryBackend,
        {
            "max_bytes": COUNT,
            "max_pending": COUNT,
            "max_keys": COUNT,
            "clock": FUNCTION,
            "wall_clock": FUNCTION,
        },
    ),
    "MemoryStore": (MemoryStore, MemoryStore, {"max_bytes": [1023, *COUNT], "clock": FUNCTION}),
    "MemoryBus": (MemoryBus, MemoryBus, {"max_pending": COUNT}),
    "MemoryCounters": (
        MemoryCounters,
        MemoryCounters,
        {"max_keys": COUNT, "clock": FUNCTION, "wall_clock": FUNCTION},
    ),
    "RedisBackend": (
        RedisBackend,
        lambda url="redis://127.0.0.1:1/0", **options: RedisBackend(url, **options),
        {
            "url": [
                *["", None, "http://somewhere", "redis://host:port", "redis:/host", "redis:host:6379"],
                *["redis:///host", "redis://host/name", "redis+sentinel://host/service/name"],
            ],
            "prefix": TEXT,
            "timeout": FINITE,
            "max_pending": COUNT,
            "clock": FUNCTION,
        },
    ),
    "TieredBackend": (
        TieredBackend,
        lambda **options: TieredBackend(RedisBackend("redis://127.0.0.1:1/0"), **options),
        {
            "max_bytes": [1023, *COUNT],
            "recheck": FINITE,
            "when_away": NOT_SECONDS,
            "heartbeat": FINITE,
            "clock": FUNCTION,
        },
    ),
    "Cache": (
        Cache,
        lambda store=PLACE.store, **options: Cache(store, **options),
        {
            "store": [object(), PLACE, "memory://"],
            "namespace": TEXT,
            "max_bytes": COUNT,
            "compress_above": [-1, 1.5, math.nan, True, "5", None],
            "lease": FINITE,
            "clock": FUNCTION,
        },
    ),
    "Cache.__call__": (
        Cache.__call__,
        lambda **options: Cache()(**{"ttl": 1, **options})(_value),
        {
            "ttl": FINITE,
            "stale": [math.inf, *NOT_SECONDS],
            "stale_if_error": [math.inf, *NOT_SECONDS],
            "early": [math.inf, *NOT_SECONDS],
            "jitter": [-0.1, 1, 1.5, math.nan, "0.1", None],
            "tags": ["items", ["{nobody}"], 5, [5]],
            "vary": ["Accept", ["two words"], [""], 5, [5]],
            "key": [*FUNCTION, lambda nobody: nobody],
            "methods": ["GET", 5, [5]],
            "max_age": [math.inf, *NOT_SECONDS],
            "name": [5, b"bytes", ""],
            "codec": [object(), "json"],
        },
    ),
    "Cache.get_or_set": (
        Cache.get_or_set,
        _loose,
        {
            "compute": [*FUNCTION, lambda: 5],
            "ttl": FINITE,
            "stale": [math.inf, *NOT_SECONDS],
            "stale_if_error": [math.inf, *NOT_SECONDS],
            "early": [math.inf, *NOT_SECONDS],
            "tags": NAMES,
            "codec": [object(), "json"],
        },
    ),
    "RateLimiter": (
        RateLimiter,
        lambda counters=PLACE.counters, **options: RateLimiter(counters, **options),
        {
            "counters": [object(), PLACE, "memory://"],
            "key": FUNCTION,
            "trusted_proxies": [-1, True, "0.0.0.0/0", ["::/0"], ["nowhere"], 1.5, None],
            "ipv6_prefix": [129, *COUNT],
            "without_key": ["bypass", None],
            "on_outage": ["allow", None],
            "on_refusal": FUNCTION,
            "max_keys": COUNT,
            "secret": ["text", b"x" * 65, None],
            "clock": FUNCTION,
        },
    ),
    "RateLimiter.__call__": (
        RateLimiter.__call__,
        lambda limit="5/minute", **options: RateLimiter(PLACE.counters)(limit, **options),
        {
            "limit": [100, None, "", "often", "0/minute", "5/minute;", "-1/minute"],
            "name": ["", 'quo"te', "tab\t", "ü", 5],
            "key": FUNCTION,
            "cost": [6, *NOT_COUNTS],
            "burst": [0, -1, 1.5, math.nan, True, "5"],
            "algorithm": ["leaky", None, 5],
            "exempt": FUNCTION,
            "statuses": [{99}, {600}, {"401"}, [401], 401],
            "ban": [object(), 5, "hour"],
        },
    ),
    "Ban": (
        Ban,
        Ban,
        {
            "after": COUNT,
            "within": FINITE,
            "first": FINITE,
            "factor": [0.5, *FINITE],
            "longest": [1, *FINITE],
            "memory": FINITE,
        },
    ),
    "by_address": (
        by_address,
        lambda trusted_proxies=(), **options: by_address(trusted_proxies, **options),
        {"trusted_proxies": [-1, "0.0.0.0/0"], "ipv6_prefix": [129, *COUNT]},
    ),
    "CacheMiddleware": (CacheMiddleware, _installed(CacheMiddleware), {"max_urls": COUNT}),
    "RateLimitMiddleware": (
        RateLimitMiddleware,
        _installed(RateLimitMiddleware),
        {"limits": [["5/minute"], [object()], [RateLimiter(PLACE.counters)("5/minute")], 5, "5/minute"]},
    ),
    "RequestLoggingMiddleware": (
        RequestLoggingMiddleware,
        _installed(RequestLoggingMiddleware),
        {
            "format": FUNCTION,
            "sink": FUNCTION,
            "trusted_proxies": [-1, True, "0.0.0.0/0", ["nowhere"], None],
            "request_id_header": ["", "two words", "a:", 5, None],
            "new_request_id": FUNCTION,
            "headers": NAMES,
            "query": NAMES,
            "bodies": [True, object()],
            "sample": [-0.1, 1.1, math.nan, True, "0.5", None],
            "quiet": NAMES,
            "slow": SECONDS,
            "observe": [print, [object()], 5],
            "mute": NAMES,
        },
    ),
    "Bodies": (Bodies, Bodies, {"limit": COUNT, "redact": NAMES}),
    "FlightRecorder": (
        FlightRecorder,
        lambda **options: FlightRecorder(logging.NullHandler(), **options),
        {"level": ["LOUD", None, 1.5], "capacity": COUNT},
    ),
    "LineFormatter": (LineFormatter, LineFormatter, {"format": FUNCTION}),
    "QueueSink": (
        QueueSink,
        lambda sink=lambda line, level: None, **options: QueueSink(sink, **options),
        {"sink": FUNCTION, "capacity": COUNT, "drain": FINITE},
    ),
    "ProblemMiddleware": (
        ProblemMiddleware,
        _installed(ProblemMiddleware),
        {
            "problems": [object(), {}],
            "on_error": [object(), [5], "print"],
            "html": FUNCTION,
            "translations": [{"de": 5}, 5, ["de"]],
            "max_errors": COUNT,
        },
    ),
    "Problem": (
        Problem,
        lambda **options: Problem(**{"status": 409, **options}),
        _PROBLEM,
    ),
    "problem": (problem, _declare, _PROBLEM),
    "ProblemError": (
        ProblemError,
        lambda status=409, **options: ProblemError(status, **options),
        {"status": _PROBLEM["status"]},
    ),
    "raises": (
        raises,
        lambda problems: raises(problems),
        {"problems": [200, 600, True, "404", object, None]},
    ),
    "Problems": (Problems, Problems, {"base": ["", "problems/", "/problems", *TEXT]}),
    "Problems.register": (
        Problems.register,
        lambda cls=KeyError, **options: Problems().register(cls, **{"status": 409, **options}),
        {**_PROBLEM, "cls": [object, BaseException, 5]},
    ),
    "JWTAuth": (
        JWTAuth,
        lambda key=SECRET, **options: JWTAuth(key, **{"algorithms": ["HS256"], **options}),
        {
            "key": ["short", "", "a" * 40, None, 5],
            "algorithms": [[], "HS256", ["none"], ["HS256", "RS256"], ["XX1"], 5, None],
            "issuer": ["", [""], 5, [5]],
            "audience": ["", [""], 5, [5]],
            "leeway": [301, math.inf, *NOT_SECONDS],
            "required": ["", [""], 5, [5]],
            "types": [[], "JWT", 5, [5]],
            "sources": [[], [object()], [_value], [query], [cookie], 5],
            "max_size": [127, *COUNT],
            "realm": ['quo"te', "ü", "a\n", 5],
            "scheme_name": TEXT,
            "clock": [_value, *FUNCTION],
        },
    ),
    "JWTAuth.issue": (
        JWTAuth.issue,
        lambda **options: JWTAuth(SECRET, algorithms=["HS256"]).issue("ada", **{"ttl": 60, **options}),
        {"ttl": FINITE, "scopes": [["two words"], [""], *NAMES]},
    ),
    "cookie": (
        cookie,
        lambda name="token", allowed_origins=("https://shop.example",): cookie(
            name, allowed_origins=allowed_origins
        ),
        {
            "name": ["", "two words", *TEXT],
            "allowed_origins": [
                *[[], "https://shop.example", ["*"], ["shop.example"], ["https://a/b"], 5, [5]],
                *[
                    ["https://a:443"],
                    ["http://a:80"],
                    ["https://ü.example"],
                    ["https://u@a"],
                    ["https://a:x"],
                ],
                *[["https://[a"], ["https://*.a"], ["https://"], [""]],
            ],
        },
    ),
    "query": (query, query, {"name": ["", *TEXT]}),
    "Hub": (
        Hub,
        lambda bus=PLACE.bus, **options: Hub(bus, **options),
        {
            "bus": [object(), PLACE, None],
            "max_pending": COUNT,
            "overflow": ["wait", None],
            "max_message_size": COUNT,
            "send_timeout": FINITE,
            "close_timeout": FINITE,
            "clock": [_value, *FUNCTION],
        },
    ),
    "Resources": (
        Resources,
        Resources,
        {"start_timeout": SECONDS, "stop_timeout": SECONDS, "notice": [math.inf, *NOT_SECONDS]},
    ),
    "Resources.provide": (
        Resources.provide,
        lambda **options: Resources().provide(**options),
        {"start_timeout": [each for each in SECONDS if each is not None]},
    ),
    "Health": (
        Health,
        lambda checks=None, **options: Health(checks, **options),
        {
            "checks": [{"database": print}, {"database": None}, {5: _value}, [print], 5],
            "timeout": SECONDS,
            "prefix": ["health", "/health/", *TEXT],
        },
    ),
    "Tasks": (
        Tasks,
        Tasks,
        {
            "max_concurrency": COUNT,
            "max_pending": NOT_COUNTS,
            "max_threads": COUNT,
            "drain_timeout": NOT_SECONDS,
        },
    ),
    "TrustedProxies": (
        TrustedProxies,
        lambda proxies=("10.0.0.0/8",), **options: TrustedProxies(proxies, **options),
        {"proxies": [-1, True, "0.0.0.0/0", ["nowhere"], 1.5, None], "header": ["", "two words", *TEXT]},
    ),
    "CSVResponse": (
        CSVResponse,
        lambda items=(), **options: CSVResponse(items, **options),
        {
            "items": NOT_ITEMS,
            "header": ["one", 5, [5]],
            "filename": [5, b"bytes"],
            "send_timeout": SECONDS,
            "drain_timeout": NOT_SECONDS,
        },
    ),
    "NDJSONResponse": (
        NDJSONResponse,
        lambda items=(), **options: NDJSONResponse(items, **options),
        {"items": NOT_ITEMS, "send_timeout": SECONDS, "drain_timeout": NOT_SECONDS},
    ),
    "EventStreamResponse": (
        EventStreamResponse,
        lambda items=(), **options: EventStreamResponse(items, **options),
        {
            "items": NOT_ITEMS,
            "heartbeat": SECONDS,
            "headers_after": SECONDS,
            "send_timeout": SECONDS,
            "drain_timeout": NOT_SECONDS,
        },
    ),
}

_FLAG = "a truth value: whatever is given has one"
_STARLETTE = "what Starlette takes, handed to it unchanged"

UNREFUSED = {
    "Cache.obeys_clients": _FLAG,
    "Cache.__call__.shared": _FLAG,
    "Cache.get_or_set.type": "pydantic's word for what a type is; an unusable one is refused with the value",
    "RateLimiter.__call__.shadow": _FLAG,
    "RateLimitMiddleware.legacy_headers": _FLAG,
    "RequestLoggingMiddleware.path": _FLAG,
    "RequestLoggingMiddleware.server_timing": _FLAG,
    "LineFormatter.exception_text": _FLAG,
    "Bodies.request": _FLAG,
    "Bodies.response": _FLAG,
    "ProblemMiddleware.validator_text": _FLAG,
    "ProblemMiddleware.exception_text": _FLAG,
    "Health.include_in_schema": _FLAG,
    "CSVResponse.escape_formulas": _FLAG,
    "CSVResponse.background": _STARLETTE,
    "NDJSONResponse.background": _STARLETTE,
    "EventStreamResponse.background": _STARLETTE,
}

POSITIONAL = {
    "CSVResponse": 3,  # as every Response of Starlette: content, status_code, headers
    "NDJSONResponse": 3,
    "EventStreamResponse": 3,
    "Cache.get_or_set": 2,  # the key, and what computes its value
    "ProblemError": 2,  # as every HTTPException of Starlette: status, detail
    "MissingExtraError": 2,  # raised by us alone
    "Claims": 6,  # a record: a test that makes one by hand names its fields
}

_PUBLIC_MODULES = [fastapi_prodkit.__name__] + [
    module.name
    for module in walk_packages(fastapi_prodkit.__path__, f"{fastapi_prodkit.__name__}.")
    if module.ispkg and "._" not in module.name
]

# Not made by a user: handed out by what is made.
_HANDED_OUT = {
    "Decision",
    "Provided",
    "RateLimit",
    "RedisBus",
    "RedisCounters",
    "RedisStore",
    "RemoteProblemError",
    "Reservation",
    "Socket",
    "TrackedRedisStore",
}


def _public() -> dict[str, Callable[..., Any]]:
    """Every public class and function, and the methods that take options at construction time."""
    found: dict[str, Callable[..., Any]] = {}
    for module in _PUBLIC_MODULES:
        home = import_module(module)
        for name in getattr(home, "__all__", ()):
            value = getattr(home, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found[name] = value
    return found | {name: subject for name, (subject, _, _) in TRIED.items()}


def _parameters(subject: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(subject).parameters.values())
    except ValueError:
        return []
    return [
        each
        for parameter in parameters
        for each in _unpacked(subject, parameter)
        if each.name not in ("self", "app")
    ]


def _unpacked(subject: Callable[..., Any], parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The options behind `**options: Unpack[Options]`."""
    if "Unpack[" not in str(parameter.annotation):
        return [parameter]
    (options,) = get_args(get_type_hints(subject)[parameter.name])
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in options.__annotations__]


def _cases() -> list[Any]:
    return [
        pytest.param(name, option, value, id=f"{name}-{option}-{_spelled(value)}")
        for name, (_, _, options) in TRIED.items()
        for option, values in options.items()
        for value in values
    ]


def _spelled(value: Any) -> str:
    text = value.__name__ if inspect.isfunction(value) else repr(value)
    return text if " at 0x" not in text else type(value).__name__


@pytest.mark.parametrize(("name", "option", "value"), _cases())
def test_what_cannot_be_meant_is_refused_by_name_and_with_the_mend(
    name: str, option: str, value: Any
) -> None:
    _, make, _ = TRIED[name]
    with pytest.raises(ConfigurationError) as refusal:
        make(**{option: value})
    message = str(refusal.value)
    assert _names_it(option, message)
    assert len(message) >= 25  # a mend does not fit into less


def _names_it(option: str, message: str) -> bool:
    subject_words = {  # an argument given by its place is named as what it is
        "bus": "bus",
        "checks": "check",
        "cls": "exception class",
        "counters": "counters",
        "items": "item",
        "key": "key",
        "limit": "limit",
        "proxies": "trusted_proxies",
        "store": "store",
        "tags": "tag",
        "url": "URL",
    }
    return option in message or subject_words.get(option, option).lower() in message.lower()


def test_every_option_is_tried_or_says_why_not() -> None:
    listed = {f"{name}.{option}" for name, (_, _, options) in TRIED.items() for option in options}
    there = {
        f"{name}.{each.name}"
        for name, subject in _public().items()
        if name not in _HANDED_OUT and (inspect.isclass(subject) or name in TRIED)
        for each in _parameters(subject)
        if each.kind is each.KEYWORD_ONLY and not _is_error(subject)
    }
    assert there - listed - set(UNREFUSED) == set(), "try its bad values, or say why there are none"
    gone = {each for each in set(UNREFUSED) | listed if each not in there and not _is_subject(each)}
    assert gone == set(), "there is no such option any more"


def _is_error(subject: Callable[..., Any]) -> bool:
    return inspect.isclass(subject) and issubclass(subject, Exception)


def _is_subject(listed: str) -> bool:
    """Whether it is the one thing that may be given by its place."""
    name, _, option = listed.rpartition(".")
    positional = [each.name for each in _parameters(TRIED[name][0]) if each.kind is not each.KEYWORD_ONLY]
    return option in positional


@pytest.mark.parametrize("name", sorted(_public()))
def test_one_subject_may_be_given_by_its_place_and_no_option(name: str) -> None:
    subject = _public()[name]
    if name in _HANDED_OUT or not (inspect.isclass(subject) or name in TRIED):
        return
    given = [
        each
        for each in _parameters(subject)
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    assert len(given) <= POSITIONAL.get(name, 1), [each.name for each in given]
