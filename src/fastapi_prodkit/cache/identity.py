"""The value identity of arguments: equal values have equal text, different values never share one."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import MultiHostUrl, Url

from ..errors import ConfigurationError

__all__ = ["digest", "identity", "is_keyable", "spelled"]

_TEXT = (
    uuid.UUID,
    decimal.Decimal,
    datetime.datetime,
    datetime.date,
    datetime.time,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    Url,
    MultiHostUrl,
)
_OF_PYDANTIC = ("pydantic.types", "pydantic.networks")  # what validates to something above, and URLs
_VALUES: tuple[type, ...] = (
    type(None),
    bool,
    int,
    float,
    str,
    bytes,
    complex,
    datetime.timedelta,
    enum.Enum,
    BaseModel,
    SecretStr,
    SecretBytes,
    *_TEXT,
)
_CONTAINERS = (list, tuple, set, frozenset, dict)


def digest(parts: Iterable[str]) -> str:
    """A short, fixed-size name for `parts`, each of which counts: nothing can be moved between them."""
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def identity(value: Any) -> str:
    """The text that stands for `value`, with its type.

    :raises ConfigurationError: if two equal-looking values could not be told apart, or one value not found
        again: an object with no more identity than its address.
    """
    kind = type(value)
    if kind is str:
        return f"s{len(value)}:{value}"
    if kind is int:
        return f"i{value}"
    if value is None:
        return "n"
    if kind is bool:
        return f"b{value:d}"
    if kind is float:
        return f"f{value.hex()}"
    if kind is bytes:
        return f"y{value.hex()}"
    return _compound(value, kind)


def _compound(value: Any, kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, type):
        return _of_class(value)
    own = getattr(value, "__cache_key__", None)
    if callable(own):
        return f"o{name}({identity(own())})"
    if isinstance(value, enum.Enum):
        return f"e{name}({identity(value.value)})"
    if isinstance(value, SecretStr | SecretBytes):
        return f"p{name}({identity(value.get_secret_value())})"
    if isinstance(value, BaseModel):
        declared = {name: each for name, each in value.__dict__.items() if name in type(value).model_fields}
        fields = {**declared, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
        return f"m{name}({_items(fields)})"
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"d{name}({_items(fields)})"
    if isinstance(value, datetime.timedelta):
        return f"t({value.days},{value.seconds},{value.microseconds})"
    if isinstance(value, _TEXT) or kind.__module__ == "pydantic.networks":
        return f"v{name}({identity(str(value))}{getattr(value, 'fold', '')})"
    if isinstance(value, list | tuple):
        return f"l{name}({','.join([identity(each) for each in value])})"
    if isinstance(value, set | frozenset):
        return f"u{name}({','.join(sorted([identity(each) for each in value]))})"
    if isinstance(value, dict):
        return f"k{name}({_items(value)})"
    if isinstance(value, str | int | float | bytes | complex):
        return f"w{name}({str(value)!r})"
    raise ConfigurationError(
        f"a {name} has no value identity, so nothing can be cached by it: give the class a method "
        "`__cache_key__` that returns a value, or say what counts by `key=`"
    )


def _of_class(value: type) -> str:
    if "<locals>" in value.__qualname__:
        raise ConfigurationError(
            f"the class {value.__qualname__} is made anew by each call of a function: its name is no value "
            "identity, so define it in a module, or say what counts by `key=`"
        )
    return f"c{value.__module__}.{value.__qualname__}"


def _items(value: Mapping[Any, Any]) -> str:
    return ",".join(sorted([f"{identity(key)}={identity(each)}" for key, each in value.items()]))


def spelled(declared: Any) -> str:
    """The text for a type or an option in a declaration, the same in every process."""
    if isinstance(declared, dict):
        return f"{{{','.join(sorted(f'{spelled(key)}:{spelled(each)}' for key, each in declared.items()))}}}"
    if isinstance(declared, set | frozenset | list | tuple):
        return f"({','.join(sorted(map(spelled, declared)))})"
    if declared is None or isinstance(declared, str | bytes | int | float):
        return repr(declared)
    if arguments := typing.get_args(declared):
        return f"{spelled(typing.get_origin(declared))}[{','.join(map(spelled, arguments))}]"
    kind = declared if isinstance(declared, type) else type(declared)
    return f"{kind.__module__}.{kind.__qualname__}"


def is_keyable(annotation: Any) -> bool:
    """Whether every value of this type has an identity; an unknown type gets the benefit of the doubt."""
    if annotation is Any or annotation is object or isinstance(annotation, str | typing.TypeVar):
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_keyable(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType):
        return all(is_keyable(each) for each in typing.get_args(annotation))
    if isinstance(annotation, typing.NewType):
        return is_keyable(annotation.__supertype__)
    kind = origin if origin is not None else annotation
    if kind is Callable or not isinstance(kind, type):
        return kind is not Callable
    if kind in _CONTAINERS or getattr(kind, "__module__", "") == "collections.abc":
        arguments = [each for each in typing.get_args(annotation) if each is not ...]
        return all(is_keyable(each) for each in arguments)
    known = issubclass(kind, _VALUES) or kind is type or kind.__module__ in _OF_PYDANTIC
    return known or dataclasses.is_dataclass(kind) or hasattr(kind, "__cache_key__")
