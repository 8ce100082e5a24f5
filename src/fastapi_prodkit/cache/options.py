"""The options of one `@cache(...)`."""

from __future__ import annotations

import random
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

from ..errors import ConfigurationError
from .arguments import Arguments
from .client import Control, for_client, wants_it_computed
from .policy import Policy
from .stamps import stamp_key

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, checked."""

    namespace: str
    policy: Policy
    tags: tuple[str, ...]
    is_shared: bool
    is_grouped: bool
    vary: tuple[str, ...]
    methods: frozenset[str]
    max_age: float
    max_bytes: int
    obeys_clients: bool
    is_disabled: Callable[[], bool]

    def check(self, arguments: Arguments) -> None:
        """
        :raises ConfigurationError: if a tag names what the function does not take, or what has no text.
        """
        for tag in self.tags:
            for name in _names_in(tag):
                first = name.split(".")[0].split("[")[0]
                if first not in arguments.signature.parameters:
                    raise ConfigurationError(
                        f"the tag {tag!r} names {name!r}, which {arguments.name} does not take"
                    )
                if first == name and not _has_text(arguments.hints.get(name)):
                    raise ConfigurationError(
                        f"the tag {tag!r} names {name!r}, which has no text but its address: name what tells "
                        f"it from others, as in {{{name}.id}}"
                    )

    @property
    def tags_of_arguments(self) -> tuple[str, ...]:
        return tuple(tag for tag in self.tags if "{" in tag)

    def static_stamps(self, arguments: Arguments, kind: str) -> tuple[str, ...]:
        """The stamps that every answer of a function carries: everything, the function, its own tags.

        :param kind: `route` or `function`, by how it is called.
        """
        tags = [stamp_key(self.namespace, "tag", tag.format()) for tag in self.tags if "{" not in tag]
        return (stamp_key(self.namespace, "all"), stamp_key(self.namespace, kind, arguments.name), *tags)

    def stamps_of(
        self, arguments: Arguments, kind: str, subject: tuple[str, ...], bound: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """The stamps that depend on the arguments: the resource, and tags that name arguments."""
        keys = [self.subject_key(arguments, kind, subject, bound)] if subject else []
        keys += [stamp_key(self.namespace, "tag", tag.format_map(bound)) for tag in self.tags_of_arguments]
        return tuple(keys)

    def subject_key(
        self, arguments: Arguments, kind: str, subject: tuple[str, ...], bound: Mapping[str, Any]
    ) -> str:
        return stamp_key(
            self.namespace, f"{kind} subject", arguments.name, arguments.identity(bound, subject)
        )

    def cache_control(self, *, private: bool) -> bytes:
        """What browsers and proxies are told where the endpoint says nothing (RFC 9111 section 5.2.2)."""
        return _cache_control(self.max_age, private)

    def is_overruled(self, control: Control) -> bool:
        """Whether a client wants it from the store alone, or not from the store."""
        return "only-if-cached" in control or (self.obeys_clients and wants_it_computed(control))

    def policy_for(self, control: Control) -> Policy:
        """The policy for a client that says this of caching."""
        return for_client(self.policy, control) if self.obeys_clients else self.policy

    def draw_ttl(self) -> float:
        policy = self.policy
        return policy.ttl * (1 - policy.jitter * random.random()) if policy.jitter else policy.ttl  # noqa: S311 -- spreads load


def _names_in(tag: str) -> Iterator[str]:
    """The names in braces, those in a format specification too."""
    try:
        for _, name, specification, conversion in Formatter().parse(tag):
            if name is not None:
                if conversion not in (None, "s", "r", "a"):
                    raise ValueError(f"!{conversion} is no conversion")
                yield name
                yield from _names_in(specification or "")
    except ValueError as error:
        raise ConfigurationError(
            f"the tag {tag!r} cannot be filled in: {error}; name an argument, as in 'item:{{item_id}}', and "
            "double a brace that stands for itself"
        ) from None


def _has_text(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if not isinstance(hint, type) or hint is object:
        return True
    methods = ("__str__", "__repr__", "__format__")
    return any(getattr(hint, name) is not getattr(object, name) for name in methods)


@lru_cache(maxsize=1024)
def _cache_control(max_age: float, private: bool) -> bytes:
    directives = ["private"] if private else []
    directives.append(f"max-age={int(max_age)}" if max_age else "no-cache")
    return ", ".join(directives).encode()
