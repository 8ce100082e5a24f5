"""The package as a whole: what importing it costs, and what its architecture forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastapi_prodkit

ROOT = Path(__file__).parent.parent


def _python(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)


def test_importing_the_root_loads_no_third_party_module() -> None:
    result = _python(
        "import sys; before = set(sys.modules); import fastapi_prodkit\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'fastapi_prodkit'}))"
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("name", fastapi_prodkit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(fastapi_prodkit, name).__doc__
    assert name in dir(fastapi_prodkit)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cachet"):
        _ = fastapi_prodkit.Cachet


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("redis", "RedisBackend", "redis"), ("jwt", "JWTAuth", "jwt")]
)
def test_a_missing_extra_ends_with_the_pip_line(package: str, name: str, extra: str) -> None:
    result = _python(f"import sys; sys.modules[{package!r}] = None\nfrom fastapi_prodkit import {name}")
    last_line = result.stderr.strip().splitlines()[-1]
    assert "MissingExtraError" in last_line
    assert last_line.endswith(f"pip install 'fastapi-prodkit[{extra}]'")


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("cache/__init__.py", "import redis", "redis is imported in backends.redis alone"),
        ("cache/__init__.py", "import fastapi_prodkit.rate_limit", "Arrows point down"),
        ("cache/__init__.py", "import fastapi_prodkit.backends.redis", "A component never names a server"),
        (
            "backends/memory/__init__.py",
            "import fastapi_prodkit.backends.redis",
            "Adapters never import each",
        ),
        ("backends/memory/__init__.py", "import fastapi_prodkit.cache", "Arrows point down"),
        ("cache/__init__.py", "import jwt", "jwt is imported in auth alone"),
        ("cache/__init__.py", "import limits", "limits is imported where limits are parsed"),
    ],
)
def test_an_import_that_the_house_forbids_is_caught(
    file: str, line: str, contract: str, tmp_path: Path
) -> None:
    source = Path(fastapi_prodkit.__file__).parent
    shutil.copytree(source, tmp_path / "fastapi_prodkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "fastapi_prodkit" / file).open("a") as module:
        module.write(f"\n{line}\n")
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(rf"{re.escape(contract)}.* BROKEN", result.stdout), result.stdout


def test_types_that_must_not_pass_do_not() -> None:
    """Each line that ends in `# error: code` in tests/typing/negative fails mypy so, and no other does."""
    from mypy import api

    files = sorted((ROOT / "tests" / "typing" / "negative").glob("*.py"))
    expected = {
        (file.name, number, code)
        for file in files
        for number, text in enumerate(file.read_text().splitlines(), 1)
        for code in re.findall(r"# error: ([\w-]+)$", text)
    }
    output, errors, _ = api.run(["--config-file", str(ROOT / "pyproject.toml"), *map(str, files)])
    found = {
        (Path(match[1]).name, int(match[2]), match[3])
        for match in re.finditer(r"^(.+?):(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    }
    assert not errors, errors
    assert found == expected
