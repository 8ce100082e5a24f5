"""A supervised runner of tasks in this process.

A task lives in memory: it survives the response and an orderly stop, not the process. What must survive a
crash belongs into a queue.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from threading import RLock
from typing import Any, NamedTuple, ParamSpec, Self

from .._arguments import count, seconds
from ..errors import ConfigurationError, ProblemError

__all__ = ["Tasks", "TasksFullError"]

P = ParamSpec("P")

logger = logging.getLogger("fastapi_prodkit.tasks")

_CANCEL_TIMEOUT = 5.0  # seconds for the `finally` blocks of cancelled tasks


class TasksFullError(ProblemError):
    """No more tasks may wait. Uncaught in an endpoint it is a 503 with `Retry-After`: load is shed."""

    def __init__(self, max_pending: int) -> None:
        super().__init__(
            503,
            "Too much work is waiting; try again soon.",
            headers={"Retry-After": "1"},
        )
        self.max_pending = max_pending


class _Pending(NamedTuple):
    name: str
    call: partial[Any]
    context: Context


class Tasks:
    """Runs functions after the response: `tasks.spawn(send_mail, address)`.

    Each runs with the context of its caller (the request id stays bound), fails alone, and is logged once.
    When the app stops, all that was spawned is finished, or after `drain_timeout` cancelled, awaited and
    named in the log.

    :param max_concurrency: the most that run at once.
    :param max_pending: the most that wait for their turn; then `spawn` raises `TasksFullError`.
    :param max_threads: the most plain `def` functions that run at once, each in a thread of its own pool.
    :param drain_timeout: seconds that unfinished tasks get when the app stops.
    :raises ConfigurationError: for a bound that lets nothing run.
    """

    __problems__ = (503,)
    """For the OpenAPI document of the routes that depend on it."""

    def __init__(
        self,
        *,
        max_concurrency: int = 100,
        max_pending: int = 10_000,
        max_threads: int = 8,
        drain_timeout: float = 10.0,
    ) -> None:
        self._max_concurrency = count("max_concurrency", max_concurrency)
        self._max_pending = count("max_pending", max_pending, least=0)
        self._max_threads = count("max_threads", max_threads)
        self._drain_timeout = seconds("drain_timeout", drain_timeout, zero=True, endless=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadline: float | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._lock = RLock()  # reentrant: a finaliser that spawns may run while it is held
        self._pending: deque[_Pending] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._given_up: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Self:
        return self

    def spawn(self, func: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `func(*args, **kwargs)` soon; never waits. An endpoint that runs in a thread may call it too.

        An `async def` function runs on the event loop, a plain one in a thread.

        :raises TasksFullError: if `max_pending` tasks wait already.
        :raises ConfigurationError: before the start and after the stop; for what is no function.
        """
        if not callable(func):
            if inspect.iscoroutine(func):
                func.close()
            raise ConfigurationError(
                f"spawn() was given a {type(func).__name__}: hand over a function and its arguments, as in "
                "spawn(send, address)"
            )
        task = _Pending(_name_of(func), partial(func, *args, **kwargs), copy_context())
        with self._lock:
            loop = self._loop
            if loop is None:
                raise ConfigurationError(
                    "these Tasks are not open: hand them to Resources(tasks), or use `async with tasks:`"
                )
            if len(self._pending) + len(self._running) >= self._max_pending + self._max_concurrency:
                raise TasksFullError(self._max_pending)
            is_here = _is_running_here(loop)
            if not is_here:
                loop.call_soon_threadsafe(self._start_pending)
            self._pending.append(task)
        if is_here:
            self._start_pending()

    async def drain(self) -> None:
        """Finish all, what it spawns meanwhile included; after `drain_timeout` seconds cancel the rest.

        The seconds count from the first call. What was lost is counted and named in the log.
        """
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._drain_timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                while self._pending or self._running:
                    self._start_pending()
                    await asyncio.wait(self._running)
        except TimeoutError:
            pass
        finally:
            await self._give_up()

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise ConfigurationError("these Tasks are open already: give each app its own")
        self._loop = asyncio.get_running_loop()
        self._deadline = None
        self._threads = ThreadPoolExecutor(self._max_threads, thread_name_prefix="prodkit-tasks")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.drain()
        finally:
            with self._lock:
                self._loop = None
            try:
                await self._give_up()  # what was spawned in the meantime
            finally:
                if self._threads is not None:
                    self._threads.shutdown(wait=False, cancel_futures=True)

    def _start_pending(self) -> None:
        with self._lock:
            while self._pending and len(self._running) < self._max_concurrency:
                pending = self._pending.popleft()
                task = asyncio.get_running_loop().create_task(
                    self._run(pending), name=pending.name, context=pending.context
                )
                self._running.add(task)
                task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._given_up.discard(task)
        self._start_pending()

    async def _run(self, pending: _Pending) -> None:
        try:
            if _is_async(pending.call.func):
                await pending.call()
                return
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._threads, copy_context().run, _whole, pending.call)
            if inspect.isawaitable(result):  # a lambda around an async function
                await result
        except asyncio.CancelledError:
            if asyncio.current_task() not in self._given_up:
                logger.warning("the task %s was cancelled", pending.name)
            raise
        except Exception:
            logger.exception("the task %s failed", pending.name)

    async def _give_up(self) -> None:
        """Cancel what is left and wait for it, then say what was lost."""
        with self._lock:
            pending, self._pending = self._pending, deque()
        running = self._running - self._given_up  # one that ignores its cancellation was named and waited for
        self._given_up |= running
        for task in running:
            task.cancel()
        lost = [task.get_name() for task in running] + [each.name for each in pending]
        try:
            if running:
                await asyncio.wait(running, timeout=_CANCEL_TIMEOUT)
        finally:
            if lost:
                names = ", ".join(f"{name} ({count})" for name, count in Counter(lost).most_common())
                logger.error("tasks lost when the app stopped: %s", names)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _whole(call: partial[Any]) -> Any:
    try:
        return call()
    except StopIteration as error:  # no future carries it: whoever awaits it would wait for ever
        raise RuntimeError("the function raised StopIteration") from error


def _is_async(func: Any) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


def _name_of(func: Callable[..., object]) -> str:
    while isinstance(func, partial):
        func = func.func
    name: str = getattr(func, "__qualname__", type(func).__qualname__)
    return name.rpartition("<locals>.")[2]
