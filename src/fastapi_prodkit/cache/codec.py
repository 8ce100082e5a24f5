"""Values of functions as bytes. No pickle: what is read from a shared server must not be able to run."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from ..errors import ConfigurationError

__all__ = ["Codec", "JSONCodec", "codec_for"]


_KNOWS_NAMES = "by_name" in inspect.signature(TypeAdapter.validate_json).parameters  # pydantic 2.11


@runtime_checkable
class Codec(Protocol):
    """Turns a value into bytes and back into an equal value."""

    def encode(self, value: Any) -> bytes: ...
    def decode(self, data: bytes) -> Any: ...


class JSONCodec:
    """JSON by a pydantic `TypeAdapter`. A value that would come back different is refused.

    :param annotation: the type of the values.
    :param subject: whose values they are, for the message.
    """

    def __init__(self, annotation: Any, subject: str) -> None:
        self._subject = subject
        try:
            self._adapter = TypeAdapter(annotation)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            raise ConfigurationError(
                f"{subject} returns {annotation!r}, which cannot be stored as JSON: give @cache a codec="
            ) from error

    def encode(self, value: Any) -> bytes:
        """
        :raises ConfigurationError: if the value would not come back equal.
        """
        try:
            data = self._adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error")
            back = self.decode(data)
        except ValueError as error:
            raise ConfigurationError(
                f"{self._subject} returned what its return annotation cannot store: make it exact, or give "
                "@cache a codec="
            ) from error
        if type(back) is not type(value) or not (back == value or self._looks_like(back, value)):
            raise ConfigurationError(
                f"{self._subject} returned a {_kind(value)}, which would come back from the cache as "
                f"{_another(back, value)}: make its return annotation exact, or give @cache a codec="
            )
        return data

    def decode(self, data: bytes) -> Any:
        if _KNOWS_NAMES:
            return self._adapter.validate_json(data, by_alias=False, by_name=True)
        return self._adapter.validate_json(data)

    def _looks_like(self, back: Any, value: Any) -> bool:
        """For classes without an `__eq__`. The repr alone will not do: in it all secrets are the same."""
        parts = self._adapter.dump_python
        return repr(back) == repr(value) and bool(
            parts(back, warnings="none") == parts(value, warnings="none")
        )


class _PlainCodec:
    """JSON for what JSON itself knows, where nothing is annotated."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def encode(self, value: Any) -> bytes:
        if not _is_plain(value):
            raise ConfigurationError(
                f"{self._subject} returned a {_kind(value)}, and does not say how to store it: annotate what "
                "it returns, or give @cache a codec="
            )
        return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def decode(self, data: bytes) -> Any:
        return json.loads(data)


def codec_for(function: Callable[..., Any], hints: dict[str, Any], name: str) -> Codec:
    """The codec that the return annotation asks for."""
    hint = hints.get("return", Any)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return _PlainCodec(name)
    return JSONCodec(hint, name)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    return value is None or kind in (str, int, float, bool)


def _kind(value: Any) -> str:
    """Not the value itself: it may be somebody's secret, and messages are logged."""
    return type(value).__qualname__


def _another(back: Any, value: Any) -> str:
    return "another one" if type(back) is type(value) else f"a {_kind(back)}"
