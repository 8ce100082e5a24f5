"""Contenders doing the same work, checked, then timed in turns.

Every round times each contender for a few hundredths of a second, in a shuffled order, and divides by what
the baseline took in that same round: a machine that is busy for a while slows both sides of the fraction.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from starlette.types import ASGIApp

from .client import Client, opened
from .rig import Rig
from .served import ServedClient, served

__all__ = ["BARE", "LIMIT", "Contender", "Result", "Suite", "measure"]

BARE = "bare FastAPI"
LIMIT = "prebuilt Response"

_SLICE = 0.02  # seconds that one contender runs in one round
_ROUNDS = (15, 101)

Build = Callable[[Rig], ASGIApp]
Clock = Callable[[], float]
Check = Callable[[Build, Rig], Awaitable[None]]


@dataclass(frozen=True)
class Contender:
    """:param package: the distribution it comes from; `None` for what is written here.
    :param yardstick: something to compare with that does not do the work, so is not checked.
    :param access_log: whether uvicorn writes its own line, in a suite that is served.
    :param among: in how many ways its requests differ; each was asked once before the timing.
    """

    name: str
    build: Build
    package: str | None = None
    note: str = ""
    yardstick: bool = False
    access_log: bool = False
    among: int = 1


@dataclass(frozen=True, kw_only=True)
class Suite:
    """:param check: raises unless the app that `build` makes does the work.
    :param at_once: how many requests are under way at any time.
    :param served: each contender runs under uvicorn in a process of its own.
    :param vary: the changes of the scope for one of the ways in which requests differ.
    :param waits: part of the work is done in another process, so the wall clock is read. Otherwise it is the
        processor time of this process, which a busy machine does not stretch.
    """

    name: str
    title: str
    text: str
    contenders: Sequence[Contender]
    check: Check
    request: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    at_once: int = 1
    vary: Callable[[int], dict[str, Any]] | None = None
    served: bool = False
    waits: bool = False
    unit: str = "request"


@dataclass(frozen=True)
class Result:
    name: str
    version: str
    note: str
    microseconds: float | None = None
    over_bare: float | None = None
    over_limit: float | None = None
    spread: float = 0.0

    @property
    def failed(self) -> bool:
        return self.microseconds is None


async def measure(suite: Suite, rig: Rig, *, seconds: float) -> list[Result]:
    """One result a contender, in their order; one that cannot do the work says why."""
    failures: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        clients: dict[str, Client | ServedClient] = {}
        for contender in suite.contenders:
            rig.reset()
            try:
                if not contender.yardstick:
                    await suite.check(_quiet(contender.build, rig), rig)
                    rig.reset()
                client: Client | ServedClient
                if suite.served:
                    path = suite.request.get("path", "/")
                    client = await stack.enter_async_context(
                        served(
                            suite.name, contender.name, rig.redis_url, path=path, connections=suite.at_once
                        )
                    )
                else:
                    app = _quiet(contender.build, rig)(rig)
                    client = await stack.enter_async_context(opened(app, **suite.request))
                    if suite.vary is not None:
                        client.vary(suite.vary, contender.among)
                        await client.burn(contender.among)
                await client.ask()  # the first answer of a limiter may be its last 200
                expected = {suite.status, 200} if contender.yardstick else {suite.status}
                if (await client.ask()).status not in expected:
                    raise AssertionError(f"answers {(await client.ask()).status}")
            except Exception as error:
                failures[contender.name] = _why(contender, error)
            else:
                clients[contender.name] = client
        rig.reset()
        gc.collect()
        gc.freeze()
        clock = time.perf_counter if suite.waits or suite.served else time.process_time
        times = await _rounds(clients, clock, seconds=seconds, at_once=suite.at_once)
        gc.unfreeze()
    return [_result(each, times, failures) for each in suite.contenders]


async def _rounds(
    clients: dict[str, Client | ServedClient], clock: Clock, *, seconds: float, at_once: int
) -> dict[str, list[float]]:
    """Seconds per request, one number a round."""
    counts = {name: await _calibrate(client, clock, at_once) for name, client in clients.items()}
    least, most = _ROUNDS
    rounds = min(most, max(least, int(seconds / (_SLICE * len(clients)))))
    times: dict[str, list[float]] = {name: [] for name in clients}
    order = list(clients)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            times[name].append(await _timed(clients[name], clock, counts[name], at_once) / counts[name])
    return times


async def _calibrate(client: Client | ServedClient, clock: Clock, at_once: int) -> int:
    """How many requests fill one slice; also the warm-up."""
    count = at_once
    while True:
        took = await _timed(client, clock, count, at_once)
        if took > _SLICE / 2:
            return max(at_once, round(count * _SLICE / took / at_once) * at_once)
        count *= 2


async def _timed(client: Client | ServedClient, clock: Clock, count: int, at_once: int) -> float:
    started = clock()
    await client.burn(count, at_once=at_once)
    return clock() - started


def _result(contender: Contender, times: dict[str, list[float]], failures: dict[str, str]) -> Result:
    version = _version(contender.package)
    if contender.name in failures:
        return Result(contender.name, version, failures[contender.name])
    mine = times[contender.name]
    over_bare = [a / b for a, b in zip(mine, times[BARE], strict=True)]
    over_limit = [a / b for a, b in zip(mine, times[LIMIT], strict=True)]
    low, _, high = statistics.quantiles(over_bare, n=4)
    return Result(
        contender.name,
        version,
        contender.note,
        microseconds=statistics.median(mine) * 1e6,
        over_bare=statistics.median(over_bare),
        over_limit=statistics.median(over_limit),
        spread=(high - low) / 2,
    )


def _quiet(build: Build, rig: Rig) -> Build:
    """Whoever takes the standard streams when it is built gets the tape."""

    def quiet(rig_: Rig) -> ASGIApp:
        with redirect_stdout(rig.tape), redirect_stderr(rig.tape):
            return build(rig_)

    return quiet


def _version(package: str | None) -> str:
    try:
        return metadata.version(package) if package else ""
    except metadata.PackageNotFoundError:
        return ""


def _why(contender: Contender, error: Exception) -> str:
    if isinstance(error, ImportError) and contender.package and not _version(contender.package):
        return f"cannot be installed beside fastapi {metadata.version('fastapi')}"
    text = " ".join(str(error).split())
    return f"does not do the work: {type(error).__name__}: {text[:120]}"
