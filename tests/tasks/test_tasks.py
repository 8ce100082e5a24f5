import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import ConfigurationError, ProblemMiddleware, Resources, Tasks, TasksFullError

# no `from __future__ import annotations`: dependencies are made inside the tests

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def _fail() -> None:
    raise ValueError("no such address")


def _messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_what_was_spawned_has_run_when_the_tasks_are_closed() -> None:
    done: list[Any] = []

    async def send(address: str, *, copies: int) -> None:
        await asyncio.sleep(0)
        done.append((address, copies))

    async with Tasks() as tasks:
        tasks.spawn(send, "a@example.org", copies=2)
        assert done == []
    assert done == [("a@example.org", 2)]


async def test_a_failure_is_logged_once_with_its_name_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = asyncio.Event()

    async def succeed() -> None:
        done.set()

    async with Tasks(max_concurrency=1) as tasks:
        tasks.spawn(_fail)
        tasks.spawn(succeed)
    assert done.is_set()
    assert _messages(caplog) == ["the task _fail failed"]
    assert "no such address" in caplog.text


async def test_a_plain_function_that_raises_stop_iteration_fails_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Tasks(drain_timeout=0.2) as tasks:
        tasks.spawn(next, iter(()))
    assert _messages(caplog) == ["the task next failed"]


async def test_a_task_and_its_error_keep_the_context_of_the_caller() -> None:
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(f"log: {tenant.get()}")

    async def work() -> None:
        seen.append(tenant.get())
        raise ValueError

    handler = Handler()
    logging.getLogger("fastapi_prodkit.tasks").addHandler(handler)
    try:
        async with Tasks(max_concurrency=1) as tasks:
            for name in ("one", "two"):
                tenant.set(name)
                tasks.spawn(work)
            tasks.spawn(lambda: seen.append(f"thread: {tenant.get()}"))
            tenant.set("three")
    finally:
        logging.getLogger("fastapi_prodkit.tasks").removeHandler(handler)
    assert seen == ["one", "log: one", "two", "log: two", "thread: two"]


async def test_no_more_run_at_once_than_allowed() -> None:
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with Tasks(max_concurrency=3) as tasks:
        for _ in range(20):
            tasks.spawn(work)
    assert most == 3


async def test_a_full_queue_refuses_and_has_room_again_later() -> None:
    release = asyncio.Event()

    async def work() -> None:
        await release.wait()

    async with Tasks(max_concurrency=1, max_pending=2) as tasks:
        for _ in range(3):
            tasks.spawn(work)
        with pytest.raises(TasksFullError):
            tasks.spawn(work)
        release.set()
        for _ in range(5):
            await asyncio.sleep(0)
        tasks.spawn(work)


async def test_a_full_queue_refuses_other_threads_too() -> None:
    release = asyncio.Event()
    accepted = 0

    def flood() -> None:
        nonlocal accepted
        with suppress(TasksFullError):
            while accepted < 100:
                tasks.spawn(release.wait)
                accepted += 1

    async with Tasks(max_concurrency=1, max_pending=2) as tasks:
        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()
        release.set()
    assert accepted == 3


async def test_what_another_thread_spawned_a_moment_before_the_close_is_finished() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async with Tasks(max_concurrency=1) as tasks:
        for number in range(3):
            thread = threading.Thread(target=tasks.spawn, args=(work, number))
            thread.start()
            thread.join()
    assert done == [0, 1, 2]


def _busy_app(middleware: bool) -> FastAPI:
    tasks = Tasks(max_concurrency=1, max_pending=0, drain_timeout=0)
    app = FastAPI(lifespan=Resources(tasks))
    if middleware:
        app.add_middleware(ProblemMiddleware)

    async def forever() -> None:
        await asyncio.Event().wait()

    @app.post("/orders")
    async def order(tasks: Annotated[Tasks, Depends(tasks)]) -> str:
        tasks.spawn(forever)
        return "ordered"

    return app


@pytest.mark.parametrize("middleware", [False, True])
def test_an_endpoint_whose_work_finds_no_room_answers_503_with_retry_after(middleware: bool) -> None:
    with TestClient(_busy_app(middleware)) as client:
        assert client.post("/orders").status_code == 200
        response = client.post("/orders")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["detail"] == "Too much work is waiting; try again soon."


async def test_a_plain_function_runs_in_a_thread_and_does_not_hold_the_loop() -> None:
    loop_turned, thread = threading.Event(), []

    def work() -> None:
        thread.append(threading.current_thread())
        assert loop_turned.wait(5)

    async with Tasks() as tasks:
        tasks.spawn(work)
        await asyncio.sleep(0)
        loop_turned.set()
    assert thread[0] is not threading.current_thread()


async def test_plain_functions_do_not_take_the_threads_of_endpoints() -> None:
    names: list[str] = []
    async with Tasks(max_threads=1) as tasks:
        for _ in range(3):
            tasks.spawn(lambda: names.append(threading.current_thread().name))
    assert len(set(names)) == 1
    assert names[0].startswith("prodkit-tasks")


async def test_a_lambda_around_an_async_function_is_awaited() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    async with Tasks() as tasks:
        tasks.spawn(lambda: work(1))
        tasks.spawn(partial(work, 2))
    assert sorted(done) == [1, 2]


async def test_a_callable_object_runs_on_the_loop_under_the_name_of_its_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Mailer:
        async def __call__(self) -> None:
            asyncio.get_running_loop()
            raise ValueError

    async with Tasks() as tasks:
        tasks.spawn(Mailer())
    assert _messages(caplog) == ["the task Mailer failed"]


async def test_what_does_not_finish_in_time_is_cancelled_awaited_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cleaned: list[str] = []

    async def export() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("export")

    async def mail() -> None: ...

    async with Tasks(max_concurrency=2, drain_timeout=0.01) as tasks:
        for spawned in (export, export, mail, mail, mail):
            tasks.spawn(spawned)
    assert cleaned == ["export", "export"]
    assert _messages(caplog) == ["tasks lost when the app stopped: mail (3), export (2)"]


async def test_what_a_cancelled_task_spawns_is_cancelled_and_named_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def last_words() -> None:
        try:
            await forever()
        finally:
            tasks.spawn(forever)

    async with Tasks(drain_timeout=0.01) as tasks:
        tasks.spawn(last_words)
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert _messages(caplog) == [
        f"tasks lost when the app stopped: {name} (1)" for name in ("last_words", "forever")
    ]


async def test_a_task_that_ignores_its_cancellation_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_prodkit.tasks.tasks._CANCEL_TIMEOUT", 0.01)
    enough = asyncio.Event()

    async def stubborn() -> None:
        while not enough.is_set():
            with suppress(asyncio.CancelledError):
                await enough.wait()

    async with Tasks(drain_timeout=0.01) as tasks:
        tasks.spawn(stubborn)
        await tasks.drain()
    enough.set()
    assert _messages(caplog) == ["tasks lost when the app stopped: stubborn (1)"]


async def test_a_plain_function_that_does_not_end_is_named_and_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    def report() -> None:
        release.wait(10)

    async with Tasks(drain_timeout=0.01) as tasks:
        tasks.spawn(report)
    assert _messages(caplog) == ["tasks lost when the app stopped: report (1)"]
    release.set()


async def test_a_drain_waits_for_what_tasks_spawn_meanwhile() -> None:
    done: list[int] = []
    tasks = Tasks()

    async def work(depth: int) -> None:
        done.append(depth)
        if depth:
            tasks.spawn(work, depth - 1)

    async with tasks:
        tasks.spawn(work, 3)
    assert done == [3, 2, 1, 0]


async def test_draining_twice_waits_once(caplog: pytest.LogCaptureFixture) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    tasks = Tasks(drain_timeout=0.05)
    loop = asyncio.get_running_loop()
    async with tasks:
        tasks.spawn(forever)
        await tasks.drain()
        tasks.spawn(forever)
        began = loop.time()
    assert loop.time() - began < 0.05
    assert len(caplog.records) == 2


async def test_a_task_that_is_cancelled_from_within_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    async with Tasks() as tasks:
        tasks.spawn(give_up)
    assert _messages(caplog) == ["the task give_up was cancelled"]


@pytest.mark.parametrize("prefix", ["async", "thread"])
def test_endpoints_of_both_kinds_spawn_and_the_work_outlives_the_response(prefix: str) -> None:
    tasks = Tasks()
    app = FastAPI(lifespan=Resources(tasks))
    released, done = threading.Event(), []

    def work(kind: str) -> None:
        released.wait(5)
        done.append(kind)

    @app.post("/async")
    async def in_loop(tasks: Annotated[Tasks, Depends(tasks)]) -> None:
        tasks.spawn(work, "async")

    @app.post("/thread")
    def in_thread(tasks: Annotated[Tasks, Depends(tasks)]) -> None:
        tasks.spawn(work, "thread")

    with TestClient(app) as client:
        assert client.post(f"/{prefix}").status_code == 200
        assert done == []
        released.set()
    assert done == [prefix]


def test_a_yield_dependency_is_closed_while_the_work_still_runs() -> None:
    events: list[str] = []
    released = threading.Event()
    tasks = Tasks()
    app = FastAPI(lifespan=Resources(tasks))

    def work() -> None:
        released.wait(5)
        events.append("work")

    async def session() -> Any:
        yield
        events.append("session closed")

    @app.post("/", dependencies=[Depends(session)])
    async def order() -> None:
        tasks.spawn(work)

    with TestClient(app) as client:
        client.post("/")
        released.set()
    assert events == ["session closed", "work"]


def test_a_stand_in_takes_the_place_of_the_tasks() -> None:
    tasks = Tasks()
    app = FastAPI()
    spawned: list[str] = []

    class Inline(Tasks):
        def spawn(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> None:
            spawned.append(func.__name__)

    @app.post("/")
    async def order(tasks: Annotated[Tasks, Depends(tasks)]) -> None:
        tasks.spawn(_fail)

    app.dependency_overrides[tasks] = lambda: Inline()
    assert TestClient(app).post("/").status_code == 200
    assert spawned == ["_fail"]


async def test_spawning_before_the_start_and_after_the_stop_says_what_to_do() -> None:
    tasks = Tasks()
    with pytest.raises(ConfigurationError, match=r"Resources\(tasks\)"):
        tasks.spawn(_fail)
    async with tasks:
        pass
    with pytest.raises(ConfigurationError, match=r"Resources\(tasks\)"):
        tasks.spawn(_fail)


@pytest.mark.parametrize("given", [_fail, int])
async def test_what_is_no_function_is_refused_with_the_way_to_hand_it_over(given: Callable[[], Any]) -> None:
    async with Tasks() as tasks:
        with pytest.raises(ConfigurationError, match=r"spawn\(send, address\)"):
            tasks.spawn(given())


async def test_one_object_may_be_opened_again_but_not_twice_at_once() -> None:
    tasks = Tasks()
    for _ in range(2):
        async with tasks:
            with pytest.raises(ConfigurationError, match="open already"):
                await tasks.__aenter__()


@pytest.mark.parametrize(
    "arguments",
    [{"max_concurrency": 0}, {"max_pending": -1}, {"max_threads": 0}, {"drain_timeout": -1}],
)
def test_a_bad_argument_is_refused_when_it_is_given(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        Tasks(**arguments)
