"""What a limit is written as: the grammar of the `limits` package, several parted by `;`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import limits

from ..errors import ConfigurationError

__all__ = ["Rate", "parse"]

_WEEKS = re.compile(r"(?P<amount>\d+)\s*(?:/|\s+per\s+)\s*(?P<count>[1-9]\d*|)\s*weeks?$", re.IGNORECASE)
_SEPARATORS = re.compile(r"[,;|]")


@dataclass(frozen=True, slots=True)
class Rate:
    """`quota` units in `window` seconds.

    :param label: the window in words, such as `per-minute` or `per-15-minutes`.
    """

    quota: int
    window: float
    label: str


def parse(text: str) -> tuple[Rate, ...]:
    """The rates in `"10/second;100/minute"`, shortest window first. `limits` knows no week: we do.

    :raises ConfigurationError: for what cannot be read, a quota of nothing, or two rates of one window.
    """
    try:
        rates = [_rate(part) for part in _SEPARATORS.split(text)]
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            f"cannot read the limit {text!r}: write '100/minute', '5 per 15 minutes' or '10/second;1000/hour'"
        ) from None
    if any(rate.quota < 1 for rate in rates):
        raise ConfigurationError(f"the limit {text!r} admits nothing: give it a quota of at least 1")
    if len({rate.window for rate in rates}) < len(rates):
        raise ConfigurationError(f"the limit {text!r} has two rates for one window: keep the smaller one")
    return tuple(sorted(rates, key=lambda rate: rate.window))


def _rate(part: str) -> Rate:
    if weeks := _WEEKS.match(part.strip()):
        count = int(weeks["count"] or 1)
        return Rate(int(weeks["amount"]), count * 604_800.0, _label("week", count))
    item = limits.parse(part)
    return Rate(item.amount, float(item.get_expiry()), _label(item.GRANULARITY.name, item.multiples))


def _label(granularity: str, count: int) -> str:
    return f"per-{granularity}" if count == 1 else f"per-{count}-{granularity}s"
