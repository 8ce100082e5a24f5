"""A sink may raise, block or fill the disk: no request fails or waits, and nothing is lost uncounted."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastapi_prodkit import ConfigurationError, RequestLoggingMiddleware
from fastapi_prodkit.request_logging import LoggerSink, QueueSink, Sink, StreamSink
from tests.servers import Uvicorn

from .lines import Lines


def _app(sink: Sink) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=sink)

    @app.get("/")
    async def ok() -> str:
        return "ok"

    return app


class Blocked:
    """Writes nothing until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.lines = Lines()

    def __call__(self, line: bytes, level: int, /) -> None:
        self.entered.set()
        self.let_go.wait(20)
        self.lines(line, level)


def _raising(line: bytes, level: int, /) -> None:
    raise RuntimeError("the sink is broken")


def _line(number: int) -> bytes:
    return b"%d\n" % number


def test_a_sink_that_raises_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(_app(_raising)) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200] * 3
    assert "3 access records were not written" in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
def test_a_full_disk_fails_no_request_and_every_line_is_counted() -> None:
    with open("/dev/full", "wb") as full:
        sink = QueueSink(StreamSink(full))
        with TestClient(_app(sink)) as client:
            assert [client.get("/").status_code for _ in range(5)] == [200] * 5
        assert sink.dropped == 5


async def _latencies(app: FastAPI, number: int) -> list[float]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        spent = []
        for _ in range(number):
            start = time.perf_counter()
            assert (await client.get("/")).status_code == 200
            spent.append(time.perf_counter() - start)
    return sorted(spent)


async def test_a_sink_that_blocks_delays_no_request() -> None:
    blocked = Blocked()
    sink = QueueSink(blocked)
    plain, behind_a_block = _app(lambda line, level: None), _app(sink)
    added = []
    for _ in range(5):  # one quiet moment of the machine is enough to tell
        p99 = [(await _latencies(app, 100))[98] for app in (plain, behind_a_block)]
        added.append(p99[1] - p99[0])
        if added[-1] < 0.001:
            break
    assert min(added) < 0.001
    assert blocked.entered.is_set()
    assert blocked.lines.raw == []
    blocked.let_go.set()
    await sink.close()
    assert len(blocked.lines.raw) == 100 * len(added)
    assert sink.dropped == 0


async def test_a_full_queue_drops_errors_last_and_counts_exactly() -> None:
    blocked = Blocked()
    sink = QueueSink(blocked, capacity=10)
    sink(_line(0), logging.INFO)
    assert blocked.entered.wait(5)  # the thread has taken the first
    for number in range(1, 16):
        sink(_line(number), logging.INFO)
    assert sink.dropped == 5
    for number in range(100, 108):
        sink(_line(number), logging.ERROR)
    assert sink.dropped == 13
    for number in range(200, 205):
        sink(_line(number), logging.ERROR)
    blocked.let_go.set()
    await sink.close()
    kept = [int(line) for line in blocked.lines.raw]
    assert kept == [0, *range(100, 108), 200, 201]
    assert sink.dropped + len(kept) == 1 + 15 + 8 + 5


async def test_lines_keep_their_order_across_levels() -> None:
    lines = Lines()
    sink = QueueSink(lines)
    for number in range(1000):
        sink(_line(number), logging.ERROR if number % 3 == 0 else logging.INFO)
    await sink.close()
    assert [int(line) for line in lines.raw] == list(range(1000))


async def test_what_a_sink_refuses_behind_the_queue_is_counted() -> None:
    sink = QueueSink(_raising)
    for number in range(7):
        sink(_line(number), logging.INFO)
    await sink.close()
    assert sink.dropped == 7


async def test_closing_does_not_wait_for_ever_and_counts_what_it_leaves() -> None:
    blocked = Blocked()
    sink = QueueSink(blocked, drain=0.05)
    sink(_line(0), logging.INFO)
    assert blocked.entered.wait(5)
    for number in range(1, 5):
        sink(_line(number), logging.INFO)
    await sink.close()
    assert sink.dropped == 4
    blocked.let_go.set()


async def test_a_queue_can_be_used_again_after_it_was_closed() -> None:
    lines = Lines()
    sink = QueueSink(lines)
    for number in range(3):
        sink(_line(number), logging.INFO)
        await sink.close()
        await sink.close()
    assert [int(line) for line in lines.raw] == [0, 1, 2]


def test_many_threads_lose_nothing_uncounted() -> None:
    lines = Lines()
    sink = QueueSink(lines, capacity=50)

    def write() -> None:
        for number in range(2000):
            sink(_line(number), logging.ERROR if number % 2 else logging.INFO)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(sink.close())
    assert len(lines.raw) + sink.dropped == 8000


def test_its_thread_ends_with_it() -> None:
    sink = QueueSink(Lines())
    sink(b"\n", logging.INFO)
    del sink
    gc.collect()
    assert not [each for each in threading.enumerate() if each.name == "prodkit-log-writer"]


def test_what_was_accepted_is_written_when_the_interpreter_ends() -> None:
    script = (
        "import sys, time, logging\n"
        "from fastapi_prodkit.request_logging import QueueSink, StreamSink\n"
        "out = StreamSink()\n"
        "sink = QueueSink(lambda line, level: (time.sleep(0.01), out(line, level)))\n"
        "for number in range(20): sink(b'%d\\n' % number, logging.INFO)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(number) for number in range(20)]


def create_slow_app() -> FastAPI:
    out = StreamSink()

    def slow(line: bytes, level: int, /) -> None:
        time.sleep(0.01)
        out(line, level)

    return _app(QueueSink(slow))


def test_sigterm_loses_nothing_that_was_accepted() -> None:
    target = f"{__name__}:create_slow_app"
    with Uvicorn(target, arguments=["--factory"]) as server:
        with httpx2.Client(base_url=server.url) as client:
            for _ in range(100):
                client.get("/")
        server.stop()
    records = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    assert len(records) == 100
    assert len({record["request_id"] for record in records}) == 100


@pytest.mark.parametrize("options", [{"capacity": 0}, {"drain": 0}])
def test_a_queue_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        QueueSink(Lines(), **options)


def test_a_logger_s_handlers_write_the_line() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test.access")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    TestClient(_app(LoggerSink("test.access"))).get("/")
    logger.setLevel(logging.ERROR)
    TestClient(_app(LoggerSink(logger))).get("/")
    logger.removeHandler(handler)
    assert json.loads(stream.getvalue())["http.route"] == "/"


def test_a_logger_s_handlers_may_ask_the_line_for_the_ids_that_every_record_has() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test.access")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(request_id)s %(trace_id)s %(span_id)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    TestClient(_app(LoggerSink("test.access"))).get("/")
    logger.removeHandler(handler)
    *ids, line = stream.getvalue().split(" ", 3)
    assert ids == [json.loads(line)[name] for name in ("request_id", "trace_id", "span_id")]


class Device(io.RawIOBase):
    """Takes what `answers` say of each write; a number is how many bytes, `None` would block."""

    def __init__(self, *answers: int | OSError | None) -> None:
        self.taken = b""
        self._answers = list(answers)

    def write(self, data: Any, /) -> int | None:
        answer = self._answers.pop(0) if self._answers else len(data)
        if isinstance(answer, OSError):
            raise answer
        if answer is not None:
            self.taken += bytes(data[:answer])
        return answer


def _written(device: Device, *lines: bytes) -> list[bool]:
    sink, done = StreamSink(device), []
    for line in lines:
        try:
            sink(line, logging.INFO)
            done.append(True)
        except OSError:
            done.append(False)
    return done


@pytest.mark.parametrize(
    ("make", "done", "taken"),
    [
        (lambda: Device(2), [True, True], b"first\nsecond\n"),
        (lambda: Device(2, OSError(28, "full")), [False, True], b"fi\nsecond\n"),
        (lambda: Device(None), [False, True], b"second\n"),
        (lambda: Device(OSError(28, "full")), [False, True], b"second\n"),
    ],
)
def test_a_torn_line_does_not_tear_the_next(
    make: Callable[[], Device], done: list[bool], taken: bytes
) -> None:
    device = make()
    assert _written(device, b"first\n", b"second\n") == done
    assert device.taken == taken


def test_a_text_stream_will_do() -> None:
    stream = io.StringIO()
    StreamSink(stream)(b'{"a":1}\n', logging.INFO)
    assert stream.getvalue() == '{"a":1}\n'


def test_a_stream_that_says_nothing_of_what_it_took_will_do() -> None:
    class Mute:
        taken = b""

        def write(self, data: bytes, /) -> None:
            self.taken += data

        def flush(self) -> None: ...

    stream = Mute()
    sink = StreamSink(stream)
    sink(b"1\n", logging.INFO)
    sink(b"2\n", logging.INFO)
    assert stream.taken == b"1\n2\n"


def test_a_sink_is_closed_once_and_one_that_cannot_be_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Lines):
        closed = 0

        async def close(self) -> None:
            self.closed += 1
            raise OSError("the disk is gone")

    sink, app = Broken(), FastAPI()
    app.add_middleware(RequestLoggingMiddleware, sink=sink)
    for starts in (1, 2):
        with TestClient(app):
            pass
        assert sink.closed == starts
    assert caplog.text.count("the sink cannot be closed") == 2
