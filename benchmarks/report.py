"""Tables for the terminal and for the page, where each suite owns one section."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .harness import Result, Suite

__all__ = ["section", "table", "write"]

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks

Every figure comes from `make bench`, which installs the packages that people use instead, checks that each
contender does the work, and then times them in turns in one process, without sockets: a ratio is the median
over the rounds of what a contender took divided by what the endpoint took in the same round. Lower is better.
The time is the processor time of the process, so that a busy machine does not stretch it; where a server does
part of the work (Redis, uvicorn) it is the wall clock. Trust the ratios, not the microseconds: they depend on
the machine. A contender that fails its check is listed with the reason and not timed.
"""

_PACKAGES = ("fastapi", "starlette", "pydantic", "redis", "uvloop")


def table(results: Sequence[Result]) -> str:
    head = ["contender", "version", "µs", "bare = 1", "prebuilt = 1", "remarks"]
    rows = [_row(each) for each in sorted(results, key=lambda each: each.microseconds or float("inf"))]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    aligned = [_line(head, widths), _line(["-" * width for width in widths], widths)]
    return "\n".join([*aligned, *(_line(row, widths) for row in rows)])


def _row(result: Result) -> list[str]:
    if result.failed:
        return [result.name, result.version, "", "", "", result.note.replace("|", "/")]
    name = f"**{result.name}**" if result.name.startswith("fastapi-prodkit") else result.name
    return [
        name,
        result.version,
        f"{result.microseconds:.0f}",
        f"{result.over_bare:.2f} ± {result.spread:.2f}",
        f"{result.over_limit:.2f}",
        result.note,
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"


def section(suite: Suite, results: Sequence[Result]) -> str:
    versions = ", ".join(f"{each} {metadata.version(each)}" for each in _PACKAGES)
    return "\n".join(
        [
            f"## {suite.title}",
            "",
            suite.text,
            "",
            table(results),
            "",
            f"{datetime.date.today().isoformat()}, Python {platform.python_version()}, {versions}, "
            f"{os.cpu_count()} cores. Repeat: `make bench SUITE={suite.name}`.",
        ]
    )


def write(name: str, text: str) -> None:
    """Put the section of suite `name` into the page, in place of its last run."""
    sections = PAGE.read_text().partition("<!--")[1:] if PAGE.exists() else ()
    page = "\n".join([_HEAD, "".join(sections)])
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{start}\n{text}\n{end}"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        page = pattern.sub(lambda _: block, page)
    else:
        page = page.rstrip("\n") + f"\n\n{block}\n"
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page)
