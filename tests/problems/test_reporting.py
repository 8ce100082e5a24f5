"""Who learns of an unforeseen exception, and what they may read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry._logs import Logger, LoggerProvider, LogRecord

from fastapi_prodkit import ProblemMiddleware
from fastapi_prodkit._traceback import traceback_text

from .served_like import as_a_server

SECRET = "canary"


class Telemetry(LoggerProvider, Logger):
    """What FastAPI's own OpenTelemetry emits, kept."""

    def __init__(self) -> None:
        super().__init__("kept")
        self.seen: list[tuple[str, BaseException]] = []

    def get_logger(self, *args: Any, **options: Any) -> Logger:
        return self

    def enabled(self, *args: Any, **options: Any) -> bool:
        return True

    def emit(self, record: LogRecord | None = None, **fields: Any) -> None:
        self.seen.append((fields["event_name"], fields["exception"]))


@pytest.mark.parametrize("path", ["/boom", "/task-group"])
def test_fastapi_s_own_telemetry_sees_it_once(path: str) -> None:
    telemetry = Telemetry()
    app = FastAPI(telemetry={"logger_provider": telemetry, "tracing": False, "metrics": False})
    app.add_middleware(ProblemMiddleware)

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError(SECRET)

    @app.get("/task-group")
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(boom())

    response = as_a_server(app).get(path)
    assert response.status_code == 500
    assert [name for name, _ in telemetry.seen] == ["http.server.request.exception"]


# --- the traceback that is written down ---


def caught(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def fail() -> None:
    raise ValueError(SECRET)


def fail_from() -> None:
    try:
        fail()
    except ValueError as error:
        raise KeyError(SECRET) from error


def fail_while() -> None:
    try:
        fail()
    except ValueError:
        raise KeyError(SECRET)  # noqa: B904 -- the context is what is tested


def fail_from_nothing() -> None:
    try:
        fail()
    except ValueError:
        raise KeyError(SECRET) from None


def fail_in_groups() -> None:
    inner = ExceptionGroup(SECRET, [caught(fail), OSError(SECRET)])
    raise ExceptionGroup(SECRET, [inner, KeyError(SECRET)])


def recurse(depth: int = 0) -> None:
    if depth < 500:
        recurse(depth + 1)
    fail()


def test_a_traceback_names_files_lines_and_types_and_no_texts() -> None:
    text = traceback_text(caught(fail))
    assert text.startswith("Traceback (most recent call last):\n")
    assert f'File "{__file__}", line ' in text
    assert text.endswith("in fail\n    raise ValueError(SECRET)\nValueError")


@pytest.mark.parametrize(
    ("function", "types", "note"),
    [
        (fail_from, ["ValueError", "KeyError"], "which caused:"),
        (fail_while, ["ValueError", "KeyError"], "while it was handled:"),
        (fail_from_nothing, ["KeyError"], ""),
        (
            fail_in_groups,
            [*["ExceptionGroup"] * 2, "ValueError", "OSError", "KeyError"],
            "member 2",
        ),
    ],
)
def test_causes_and_members_are_told(function: Any, types: list[str], note: str) -> None:
    text = traceback_text(caught(function))
    assert [line for line in text.splitlines() if line.endswith(("Error", "Group"))] == types
    assert note in text
    assert SECRET not in text


def test_a_deep_recursion_is_cut_in_the_middle() -> None:
    text = traceback_text(caught(recurse))
    assert "more frames" in text
    assert len(text.splitlines()) < 150
    assert text.endswith("ValueError")


def test_a_crowd_of_exceptions_is_cut() -> None:
    text = traceback_text(ExceptionGroup("", [ValueError() for _ in range(1000)]))
    assert text.count("ValueError") < 30
    assert text.endswith("... and more exceptions")


def test_exceptions_that_cause_each_other_come_to_an_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert traceback_text(first).endswith("ValueError")


def test_the_texts_come_on_request() -> None:
    assert traceback_text(caught(fail), texts=True).endswith("ValueError: canary")
