"""What the contenders of a suite are given."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Rig", "Tape"]


class Tape(io.TextIOBase):
    """Where log lines go: to the null device, or kept while a contender is checked."""

    def __init__(self) -> None:
        self._null = open(os.devnull, "w")  # noqa: SIM115 -- closed with the tape
        self._kept: list[str] | None = None

    def record(self) -> None:
        self._kept = []

    def stop(self) -> list[str]:
        """The lines since `record`."""
        kept, self._kept = self._kept, None
        return "".join(kept or []).splitlines()

    def write(self, text: str) -> int:
        if self._kept is not None:
            self._kept.append(text)
        return self._null.write(text)

    def flush(self) -> None:
        self._null.flush()

    def close(self) -> None:
        super().close()
        self._null.close()

    def fileno(self) -> int:
        return self._null.fileno()


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
