"""What an invalidation by arguments has to renew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigurationError
from .arguments import Arguments
from .options import Options
from .plan import Plan
from .stamps import stamp_key

__all__ = ["stamps_to_renew"]


def stamps_to_renew(
    plans: Collection[Plan],
    arguments: Arguments,
    options: Options,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> list[str]:
    """The stamps of a cached function for these arguments; for none, that of the function.

    :param plans: of the routes that lead to it.
    :raises ConfigurationError: if some of the arguments that name the resource are missing.
    :raises ValidationError: if the route takes no such arguments.
    """
    whole = [stamp_key(options.namespace, kind, arguments.name) for kind in ("route", "function")]
    if not args and not kwargs:
        return whole
    called = bound = arguments.named(args, kwargs)
    try:
        bound = arguments.named(args, kwargs, validated=True)
    except ValidationError:
        if plans:
            raise
    keys = []
    for subject in {plan.subject for plan in plans}:
        missing = [name for name in subject if name not in bound]
        if missing:
            raise ConfigurationError(
                f"to invalidate {arguments.name} by its arguments, {missing[0]!r} is missing"
            )
        keys.append(options.subject_key(arguments, "route", subject, bound) if subject else whole[0])
    if arguments.key is not None or not set(arguments.values) <= bound.keys():
        keys.append(whole[1])
    else:
        keys.append(options.subject_key(arguments, "function", arguments.values, called))
        with suppress(ConfigurationError):  # validated, an Iterable is one that can be read once
            keys.append(options.subject_key(arguments, "function", arguments.values, bound))
    return list(dict.fromkeys(keys if plans else [whole[0], *keys]))
