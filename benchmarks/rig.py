"""What the contenders of a suite are given."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

__all__ = ["Rig", "Tape"]


class Tape(io.TextIOWrapper):
    """Where log lines go, made as standard output is: to the null device, or to a file while a contender is
    checked."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115 -- closed with the tape
        self._kept: IO[bytes] | None = None

    def record(self) -> None:
        self._kept = TemporaryFile()  # noqa: SIM115 -- closed by `stop`
        self._lead_to(self._kept.fileno())

    def stop(self) -> list[str]:
        """The lines since `record`."""
        kept, self._kept = self._kept, None
        if kept is None:
            return []
        with kept, open(os.devnull, "wb") as null:
            self._lead_to(null.fileno())
            kept.seek(0)
            return kept.read().decode().splitlines()

    def _lead_to(self, descriptor: int) -> None:
        self.flush()
        os.dup2(descriptor, self.fileno())


@dataclass(frozen=True)
class Rig:
    """:param limit: how many requests may pass in `window` seconds, for a suite about limits.
    :param empty: empties the server.
    """

    tape: Tape
    redis_url: str
    empty: Callable[[], None]
    limit: int = 1_000_000
    window: int = 1

    def reset(self) -> None:
        self.empty()
