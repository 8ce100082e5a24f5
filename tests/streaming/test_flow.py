"""When bytes go out, how many at a time, and what ends a stream."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.types import Message

from fastapi_prodkit import ConfigurationError, CSVResponse, EventStreamResponse, NDJSONResponse
from fastapi_prodkit._shutdown import Shutdown
from fastapi_prodkit.streaming import feed

from .wire import Wire

FORMATS = [NDJSONResponse, EventStreamResponse, CSVResponse]


async def _numbers(count: int) -> AsyncIterator[dict[str, int]]:
    for number in range(count):
        yield {"number": number}


class Source:
    """An async generator that a test holds by two events; it says when its `finally` has run."""

    def __init__(self, *, first: int = 1) -> None:
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()
        self._first = first

    async def items(self) -> AsyncIterator[dict[str, int]]:
        try:
            for number in range(self._first):
                yield {"number": number}
            await self.go_on.wait()
            yield {"number": 99}
        finally:
            await asyncio.sleep(0)  # clean-up may wait, as giving back a connection does
            self.closed.set()


async def test_many_items_become_few_writes_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_SLICE", 60)  # however slow the machine
    wire = Wire()
    await wire.serve(NDJSONResponse(_numbers(10_000)))
    assert wire.body.count(b"\n") == 10_000
    assert len(wire.bodies) <= len(wire.body) / 16_384 + 3
    assert max(map(len, wire.bodies)) < 16_384 + 100


async def test_a_plain_generator_hops_to_a_thread_for_each_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hops = 0

    async def counted(*args: Any) -> Any:
        nonlocal hops
        hops += 1
        return await run_in_threadpool(*args)

    monkeypatch.setattr(feed, "run_in_threadpool", counted)
    monkeypatch.setattr(feed, "_SLICE", 60)  # however slow the machine
    wire = Wire()
    await wire.serve(NDJSONResponse({"number": number} for number in range(5_000)))
    assert wire.body.count(b"\n") == 5_000
    assert hops <= len(wire.body) / 16_384 + 3


async def test_what_is_there_goes_out_when_the_producer_waits() -> None:
    wire, source = Wire(), Source(first=3)
    serving = asyncio.create_task(wire.serve(NDJSONResponse(source.items())))
    await wire.until(b'{"number":2}\n')
    assert wire.bodies == [b'{"number":0}\n{"number":1}\n{"number":2}\n']
    source.go_on.set()
    await serving
    assert wire.body.endswith(b'{"number":99}\n')
    assert wire.is_complete


async def test_a_burst_after_a_pause_is_one_write() -> None:
    wire, bursts = Wire(), 5

    async def items() -> AsyncIterator[int]:
        for burst in range(bursts):
            await asyncio.sleep(0.02)  # a driver fetches the next hundred rows
            for number in range(100):
                yield burst * 100 + number

    await wire.serve(NDJSONResponse(items()))
    assert len(wire.bodies) < bursts * 2  # a busy machine may split one


async def test_what_a_plain_generator_has_given_goes_out_while_it_blocks() -> None:
    wire, go_on = Wire(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(5)
        yield 2

    serving = asyncio.create_task(wire.serve(NDJSONResponse(items())))
    await wire.until(b"1\n")
    assert wire.body == b"1\n"
    go_on.set()
    await serving
    assert wire.body == b"1\n2\n"


async def test_what_a_thread_makes_after_a_late_start_goes_out_while_it_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def late(*args: Any) -> Any:
        await asyncio.sleep(0.03)  # no thread was free
        return await run_in_threadpool(*args)

    monkeypatch.setattr(feed, "run_in_threadpool", late)
    wire, go_on = Wire(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(5)
        yield 2

    serving = asyncio.create_task(wire.serve(NDJSONResponse(items())))
    await wire.until(b"1\n")
    go_on.set()
    await serving
    assert wire.body == b"1\n2\n"


async def test_a_generator_that_never_waits_lets_the_event_loop_turn() -> None:
    turns = 0

    async def busy() -> AsyncIterator[int]:
        for number in range(100):
            done = time.perf_counter() + 0.001
            while time.perf_counter() < done:
                pass  # work that takes the processor, and little comes of it
            yield number

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await Wire().serve(NDJSONResponse(busy()))
    turning.cancel()
    assert turns > 5


async def test_a_slow_reader_holds_the_producer_after_two_chunks() -> None:
    wire, made, closed = Wire(), 0, False

    async def endless() -> AsyncIterator[str]:
        nonlocal made, closed
        try:
            for made in itertools.count():  # noqa: B007 -- read below
                yield "x" * 1023
        finally:
            await asyncio.sleep(0.01)  # clean-up may wait
            closed = True

    wire.reading.clear()
    serving = asyncio.create_task(wire.serve(NDJSONResponse(endless())))
    await asyncio.sleep(0.05)
    assert made <= 34
    wire.left.set()
    wire.reading.set()
    await serving
    assert closed


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_memory_stays_flat_however_long_the_stream(kind: str) -> None:
    async def rows() -> AsyncIterator[str]:
        for _ in range(8_000):
            yield "x" * 1000

    class Sink(Wire):
        total = 0

        async def _send(self, message: Message) -> None:
            self.total += len(message.get("body", b""))

    sink = Sink()
    items = rows() if kind == "async" else ("x" * 1000 for _ in range(8_000))
    tracemalloc.start()
    try:
        await sink.serve(NDJSONResponse(items))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.total > 8_000_000
    assert peak < 1_000_000


@pytest.mark.parametrize("make", FORMATS)
async def test_a_client_that_leaves_closes_the_generator_at_once(make: type[NDJSONResponse]) -> None:
    wire, source = Wire(), Source()
    serving = asyncio.create_task(wire.serve(make(source.items())))
    await wire.until(b"0")
    wire.left.set()
    await serving
    assert source.closed.is_set()
    assert not wire.is_complete


async def test_a_client_that_leaves_before_the_first_item_closes_the_generator_too() -> None:
    wire, source = Wire(), Source(first=0)
    wire.left.set()
    await wire.serve(NDJSONResponse(source.items()))
    assert source.closed.is_set()
    assert wire.messages == []


async def test_a_plain_generator_is_closed_when_its_current_item_is_done() -> None:
    wire, blocked, go_on, closed = Wire(), threading.Event(), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            blocked.set()
            go_on.wait(5)
            yield 2
            pytest.fail("it went on")
        finally:
            closed.set()

    serving = asyncio.create_task(wire.serve(NDJSONResponse(items())))
    await wire.until(b"1\n")
    await asyncio.to_thread(blocked.wait)
    wire.left.set()
    await asyncio.sleep(0.01)
    go_on.set()
    await serving
    assert closed.is_set()
    assert wire.body == b"1\n"


async def test_a_generator_that_swallows_its_cancellation_is_closed_anyway() -> None:
    wire, made = Wire(), []

    async def stubborn() -> AsyncIterator[int]:
        for number in itertools.count():
            made.append(number)
            try:
                yield number
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    serving = asyncio.create_task(wire.serve(NDJSONResponse(stubborn())))
    await wire.until(b"0\n")
    wire.left.set()
    await serving
    assert made == [0, 1]


async def test_an_error_in_the_clean_up_of_an_abandoned_stream_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise OSError("the pool is gone")

    wire = Wire()
    serving = asyncio.create_task(wire.serve(NDJSONResponse(items())))
    await wire.until(b"1\n")
    wire.left.set()
    await serving
    assert "the pool is gone" in caplog.text


async def test_an_error_that_meets_a_client_that_has_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    async def items() -> AsyncIterator[int]:
        yield 1
        wire.left.set()
        raise OSError("the pool is gone")

    await wire.serve(NDJSONResponse(items()))
    assert "the pool is gone" in caplog.text


async def test_a_client_that_stops_reading_counts_as_gone() -> None:
    wire, source = Wire(), Source()
    wire.reading.clear()
    await wire.serve(NDJSONResponse(source.items(), send_timeout=0.01))
    assert source.closed.is_set()
    assert wire.messages == []


async def test_a_server_that_cancels_the_response_closes_the_generator() -> None:
    wire, source = Wire(), Source()
    serving = asyncio.create_task(wire.serve(NDJSONResponse(source.items())))
    await wire.until(b"0")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert source.closed.is_set()


async def test_an_idle_event_stream_sends_its_headers_and_then_comments() -> None:
    wire, source = Wire(), Source(first=0)
    response = EventStreamResponse(source.items(), headers_after=0.01, heartbeat=0.01)
    serving = asyncio.create_task(wire.serve(response))
    await wire.until(b": heartbeat\n\n: heartbeat\n\n")
    assert wire.messages[0]["status"] == 200
    source.go_on.set()
    await serving
    assert wire.body.endswith(b'data: {"number":99}\n\n')


async def test_an_event_stream_that_is_not_idle_sends_no_comments() -> None:
    async def steady() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0.01)
            yield number

    wire = Wire()
    await wire.serve(EventStreamResponse(steady(), heartbeat=0.2))
    assert b"heartbeat" not in wire.body


async def test_an_event_stream_over_a_blocking_generator_beats_no_earlier_than_asked() -> None:
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.05)
        yield 2

    wire = Wire()
    await wire.serve(EventStreamResponse(slow(), headers_after=5, heartbeat=5))
    assert wire.body == b"data: 1\n\ndata: 2\n\n"


async def test_an_event_stream_ends_when_the_app_stops() -> None:
    shutdown = Shutdown()
    wire, source = Wire(shutdown), Source()
    serving = asyncio.create_task(wire.serve(EventStreamResponse(source.items())))
    await wire.until(b"0")
    shutdown.begin()
    await serving
    assert wire.is_complete
    assert wire.body == b'data: {"number":0}\n\n'
    assert source.closed.is_set()


async def test_an_event_stream_that_opens_while_the_app_stops_ends_as_a_whole() -> None:
    shutdown = Shutdown()
    shutdown.begin()
    wire, source = Wire(shutdown), Source(first=0)
    await wire.serve(EventStreamResponse(source.items()))
    assert wire.messages[0]["status"] == 200
    assert wire.is_complete


async def test_an_export_may_finish_while_the_app_stops() -> None:
    shutdown = Shutdown()
    wire, source = Wire(shutdown), Source()
    serving = asyncio.create_task(wire.serve(NDJSONResponse(source.items())))
    await wire.until(b"0")
    shutdown.begin()
    await asyncio.sleep(0.01)
    source.go_on.set()
    await serving
    assert wire.body == b'{"number":0}\n{"number":99}\n'


async def test_an_export_that_does_not_finish_in_time_says_so_in_its_last_line() -> None:
    shutdown = Shutdown()
    wire, source = Wire(shutdown), Source()
    serving = asyncio.create_task(wire.serve(NDJSONResponse(source.items(), drain_timeout=0.01)))
    await wire.until(b"0")
    shutdown.begin()
    await serving
    assert wire.is_complete
    assert b'"status":503,"detail":"The server is stopping."' in wire.bodies[-1]
    assert source.closed.is_set()


async def test_nothing_is_left_listening_when_a_stream_is_over() -> None:
    shutdown = Shutdown()
    wire = Wire(shutdown)
    before = asyncio.all_tasks()
    await wire.serve(NDJSONResponse(_numbers(3)))
    assert asyncio.all_tasks() == before
    assert shutdown._listeners == {}


async def test_no_items_are_an_empty_body() -> None:
    wire = Wire()
    await wire.serve(NDJSONResponse([]))
    assert wire.messages[0]["status"] == 200
    assert (wire.body, wire.is_complete) == (b"", True)


async def test_a_head_request_runs_no_generator() -> None:
    wire, source = Wire(), Source()
    await wire.serve(NDJSONResponse(source.items()), method="HEAD")
    assert (wire.body, wire.is_complete) == (b"", True)
    assert not source.closed.is_set()


async def test_background_work_runs_after_the_stream() -> None:
    wire, seen = Wire(), []
    background = BackgroundTask(lambda: seen.append(wire.is_complete))
    await wire.serve(NDJSONResponse(_numbers(1), background=background))
    assert seen == [True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NDJSONResponse(_numbers), "function is no iterable"),  # type: ignore[arg-type]  # the point
        (lambda: NDJSONResponse("text"), "str is no iterable"),
        (lambda: NDJSONResponse([], send_timeout=0), "send_timeout"),
        (lambda: NDJSONResponse([], drain_timeout=-1), "drain_timeout"),
        (lambda: EventStreamResponse([], heartbeat=0), "heartbeat"),
        (lambda: EventStreamResponse([], headers_after=0), "headers_after"),
        (lambda: CSVResponse([], header="id,name"), "header='id,name'"),
    ],
)
def test_a_bad_argument_is_refused_when_it_is_given(make: Callable[[], Iterable[Any]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
