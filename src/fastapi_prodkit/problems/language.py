"""Texts in the reader's language: Accept-Language (RFC 9110, 12.5.4), matched by lookup (RFC 4647, 3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from .._arguments import instance
from ..errors import ConfigurationError

__all__ = ["Texts", "Translations", "filled"]

Texts = Mapping[str, str]

_LONGEST_HEADER = 500  # a browser sends some 50 characters; what follows is not worth the time


class Translations:
    """A catalogue for each language, keyed by problem type and by validation code.

    :param catalogues: `{"de": {"missing": "Pflichtfeld", "greater_than": "Muss über {gt} liegen"}}`
    """

    def __init__(self, catalogues: Mapping[str, Texts]) -> None:
        instance("translations", catalogues, Mapping, "map each language to its texts")
        for tag, texts in catalogues.items():
            if not isinstance(texts, Mapping):
                raise ConfigurationError(
                    f"translations[{tag!r}] must map codes to texts, such as {{'missing': 'Pflichtfeld'}}"
                )
            for key, text in texts.items():
                if not _is_template(text):
                    raise ConfigurationError(
                        f"translations[{tag!r}][{key!r}]={text!r} cannot be filled in: give a text in which "
                        "{} stands around the name of a bound alone, such as {gt}; a brace itself is {{ or }}"
                    )
        self._catalogues = {tag.lower(): (tag, texts) for tag, texts in catalogues.items()}

    def __bool__(self) -> bool:
        return bool(self._catalogues)

    def negotiate(self, accept_language: str) -> tuple[str, Texts] | None:
        """The language tag and its texts, or `None` for the English that is built in."""
        for wanted in _by_preference(accept_language[:_LONGEST_HEADER].lower()):
            tag = wanted
            while tag:
                if tag in self._catalogues:
                    return self._catalogues[tag]
                if tag == "en":
                    return None
                tag = tag.rpartition("-")[0]
        return None


def filled(text: str, bounds: Mapping[str, Any]) -> str:
    """The text with the limits that a schema sets; what is no such limit is `?`.

    :raises ValueError: for a form that the bound does not have, such as `{le:%d}` of a number.
    """
    return text.format_map(_Bounds(bounds))


class _Bounds(dict[str, Any]):
    """The limits that a schema sets (`gt`, `max_length`): what a translation may mention."""

    _UNSAFE = frozenset({"error", "tag", "encoding_error", "tz_actual", "actual_length"})

    def __missing__(self, name: str) -> str:
        return "?"

    def __getitem__(self, name: str) -> Any:
        return "?" if name in self._UNSAFE else super().__getitem__(name)


def _is_template(text: object) -> bool:
    """Whether it is a text whose braces are doubled or stand around a name, as `format_map` needs it."""
    if not isinstance(text, str):
        return False
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError:
        return False
    return all(
        str(name).isidentifier() and not {"{", "}"} & set(form or "") and conversion in (None, *"ars")
        for _, name, form, conversion in fields
    )


def _by_preference(header: str) -> Iterator[str]:
    weighed = []
    for position, item in enumerate(header.split(",")):
        tag, _, parameters = item.partition(";")
        name, _, value = parameters.strip().partition("=")
        try:
            quality = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            quality = 0.0
        if quality > 0:
            weighed.append((-quality, position, tag.strip()))
    return (tag for _, _, tag in sorted(weighed))
