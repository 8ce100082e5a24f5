"""Quotas that start anew with the day, the week or the month, as people in a zone count them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigurationError

__all__ = ["Calendar"]


class Calendar:
    """`limiter("1000/day", algorithm=Calendar("Europe/Berlin"))`: a thousand between two midnights there.

    :param zone: an IANA time zone.
    :raises ConfigurationError: for a zone that is not known here.
    """

    def __init__(self, zone: str = "UTC") -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"there is no time zone {zone!r} here: use a name such as 'Europe/Berlin', or install tzdata"
            ) from None

    def period(self, label: str) -> Callable[[float], tuple[float, float]]:
        """The start and end (Unix time) of the `per-day`, `per-week` or `per-month` that holds a time.

        :raises ConfigurationError: for any other label.
        """
        edges = {"per-day": _day, "per-week": _week, "per-month": _month}.get(label)
        if edges is None:
            raise ConfigurationError(f"a calendar has no {label!r}: write '1000/day', '/week' or '/month'")

        last = (0.0, 0.0)

        def period(now: float) -> tuple[float, float]:
            nonlocal last
            if not last[0] <= now < last[1]:
                midnight = datetime.fromtimestamp(now, self._zone).replace(
                    hour=0, minute=0, second=0, microsecond=0, fold=0
                )
                start, end = edges(midnight)
                last = (start.timestamp(), end.timestamp())
            return last

        return period


def _day(midnight: datetime) -> tuple[datetime, datetime]:
    return midnight, midnight + timedelta(days=1)


def _week(midnight: datetime) -> tuple[datetime, datetime]:
    monday = midnight - timedelta(days=midnight.weekday())
    return monday, monday + timedelta(days=7)


def _month(midnight: datetime) -> tuple[datetime, datetime]:
    first = midnight.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)
