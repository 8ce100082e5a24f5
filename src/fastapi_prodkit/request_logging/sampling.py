"""Which records are written. What did not end well or was slow always is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._arguments import fraction, plain_function, seconds
from .record import Record

__all__ = ["Sampling", "wants_details"]

_TAIL = 14  # hexadecimal digits: the 56 bits of a trace id that W3C Trace Context lets be random


class Sampling:
    """Decides by the record.

    :param sample: the share of ordinary records to keep, from 0.0 to 1.0, or a function of a record. A share
        is taken by the trace id, so that every service keeps the same requests; the record says it in
        `sample_rate`.
    :param quiet: routes whose ordinary records are not written, such as health checks.
    :param slow: seconds from which a request is remarkable.
    """

    def __init__(
        self, *, sample: float | Callable[[Record], bool], quiet: Iterable[str], slow: float
    ) -> None:
        self._decide = plain_function("sample", sample) if callable(sample) else None
        self._rate = 1.0 if callable(sample) else fraction("sample", sample)
        self._below = int(self._rate * 16**_TAIL)
        self.quiet = frozenset(quiet)
        self.slow = seconds("slow", slow, endless=True)

    @property
    def keeps_all(self) -> bool:
        """Whether every record is written that is not of a quiet route."""
        return self._decide is None and self._rate == 1.0

    def keeps(self, record: Record, *, stopping: bool) -> bool:
        """Whether to write it.

        :param stopping: whether the app is about to stop: to say so by 503 is what a probe asks for.
        """
        if record["http.route"] not in self.quiet and self._decide is None and self._rate == 1.0:
            return True
        if _is_remarkable(record, self.slow):
            return not (stopping and record["http.route"] in self.quiet and _is_refusal(record))
        if record["http.route"] in self.quiet:
            return False
        if self._decide is not None:
            return self._decide(record)
        record["sample_rate"] = self._rate
        return int(record["trace_id"][-_TAIL:], 16) < self._below


def _is_remarkable(record: Record, slow: float) -> bool:
    """Whether it did not end well, be it by the client's fault, or was slow."""
    return record["outcome"] != "ok" or _failed_or_slow(record, slow)


def _is_refusal(record: Record) -> bool:
    return record["http.response.status_code"] == 503 and "exception.type" not in record


def wants_details(record: Record, slow: float) -> bool:
    """Whether the app failed, or was slow: anybody can cause a 404, as many as he likes."""
    return record["outcome"] not in ("ok", "client_error") or _failed_or_slow(record, slow)


def _failed_or_slow(record: Record, slow: float) -> bool:
    """A WebSocket is not slow because it was open for long."""
    if "exception.type" in record:
        return True
    duration: float = record["http.server.request.duration"]
    return duration >= slow and record["event.name"] != "websocket.session"
