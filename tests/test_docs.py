"""Every fence in the README and the docs is executed; every example is imported and stays small.

The `python` fences of a page run in order and share one namespace, with `await` allowed at the top level
and `REDIS_URL` naming a real server. A fence that only shows output or a shell has another language.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
COMPONENT_PAGES = sorted((ROOT / "docs" / "components").glob("*.md"))
FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HEADINGS = ["Construct", "Install", "Inject", "Override", "Close"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _fences(page: Path) -> list[tuple[int, str]]:
    """The line of each python fence, and its code."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        indent, language, code = match.groups()
        if language == "python":
            lines = [line.removeprefix(indent) for line in code.splitlines()]
            found.append((text.count("\n", 0, match.start()) + 2, "\n".join(lines)))
    return found


@pytest.fixture
def root_logger_restored() -> Iterator[None]:
    """A page may configure logging, as an app does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger_restored")
@pytest.mark.parametrize("page", PAGES, ids=_name)
async def test_every_fence_of_the_page_runs(
    page: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    fences = _fences(page)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for line, source in fences:
        code = compile(
            "\n" * (line - 1) + source,
            str(page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        result = eval(code, namespace)
        if inspect.isawaitable(result):
            await result


def test_the_app_of_the_readme_does_what_the_readme_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    namespace: dict[str, Any] = {"__name__": "readme"}
    for _, source in _fences(ROOT / "README.md"):
        exec(compile(source, "README.md", "exec"), namespace)
    with TestClient(namespace["app"]) as client:
        first, second = client.get("/prices/1"), client.get("/prices/1")
        assert second.content == first.content
        assert "hit" in second.headers["cache-status"]
        assert client.put("/prices/1", params={"price": 12}).status_code == 204
        assert client.get("/prices/1").json() == 12
        statuses = [client.get("/prices/1").status_code for _ in range(110)]
        refused = client.get("/prices/1")
        missing = client.get("/nowhere")
    assert statuses.count(200) < 110
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert missing.headers["content-type"] == "application/problem+json"
    printed = capsys.readouterr().out.splitlines()
    assert "the price of 1 is 12.0" in printed
    records = [json.loads(line) for line in printed if line.startswith("{")]
    assert len(records) == 116
    assert records[0]["request_id"] == first.headers["x-request-id"]


@pytest.mark.parametrize("page", COMPONENT_PAGES, ids=_name)
def test_a_component_page_has_the_five_headings(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert [each for each in headings if each in HEADINGS] == HEADINGS


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("[a-z]*.py")), ids=_name)
def test_an_example_is_one_idea_in_under_sixty_lines(example: Path) -> None:
    source = example.read_text()
    assert len(source.splitlines()) < 60
    assert "def create_app(" in source
