"""A sink that keeps what it was given, and an app to be logged."""

from __future__ import annotations

import json
from typing import Any


class Lines:
    """Keeps every line, and reads it back as JSON."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.levels: list[int] = []

    def __call__(self, line: bytes, level: int, /) -> None:
        self.raw.append(line)
        self.levels.append(level)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def only(self) -> dict[str, Any]:
        assert len(self.raw) == 1, self.raw
        return self.records[0]
