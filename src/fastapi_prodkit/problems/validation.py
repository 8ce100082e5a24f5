"""Validation errors for clients: where and what, never the value that was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic_core import PydanticKnownError

from .language import Texts, filled

__all__ = ["MAPPING", "field_errors"]

MAPPING = (dict, Mapping)  # most are a dict, which is seen at a tenth of what an abstract class takes

_LONGEST_NAME = 100
_DEEPEST = 20

# Codes of pydantic whose message is made of the schema alone. Every other message may quote the input: those
# of validators do, and so do the messages about tags, URLs, UUIDs and dates.
_MADE_OF_THE_SCHEMA = """
missing frozen_field frozen_instance extra_forbidden invalid_key none_required model_attributes_type
greater_than greater_than_equal less_than less_than_equal multiple_of finite_number
too_short too_long iterable_type string_type string_unicode string_too_short string_too_long
string_pattern_mismatch string_not_ascii enum literal_error dict_type frozen_dict_type list_type tuple_type
set_type frozen_set_type set_item_not_hashable bool_type bool_parsing int_type int_parsing int_parsing_size
int_from_float float_type float_parsing bytes_type bytes_too_short bytes_too_long
date_type date_from_datetime_inexact date_past date_future time_type datetime_type datetime_past
datetime_future timezone_naive timezone_aware time_delta_type union_tag_not_found
url_type url_too_long url_scheme uuid_type uuid_version decimal_type decimal_parsing decimal_max_digits
decimal_max_places decimal_whole_digits fraction_type fraction_parsing complex_type complex_str_parsing
json_type arguments_type missing_argument unexpected_keyword_argument missing_keyword_only_argument
unexpected_positional_argument missing_positional_only_argument multiple_argument_values
"""
_QUOTES_NOTHING = frozenset(_MADE_OF_THE_SCHEMA.split())

_TEXTS = {
    "json_invalid": "Invalid JSON",
    "model_type": "Input should be a valid object",
    "dataclass_type": "Input should be a valid object",
    "date_parsing": "Input should be a valid date in the format YYYY-MM-DD",
    "date_from_datetime_parsing": "Input should be a valid date or datetime",
    "time_parsing": "Input should be in a valid time format",
    "datetime_parsing": "Input should be a valid datetime",
    "datetime_from_date_parsing": "Input should be a valid datetime or date",
    "datetime_object_invalid": "Input should be a valid datetime",
    "time_delta_parsing": "Input should be a valid duration",
    "timezone_offset": "Input should have another timezone offset",
    "union_tag_invalid": "Input matches none of the expected tags",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
    "bytes_invalid_encoding": "Input should be validly encoded",
    "recursion_loop": "Input is nested too deeply",
}
_ANY = "Input is not valid"

_PLACES = {"path": "parameter", "query": "parameter", "header": "header", "cookie": "cookie"}


def field_errors(
    errors: Sequence[Mapping[str, Any]], body: Any, *, limit: int, texts: Texts | None, quote: bool
) -> list[dict[str, Any]]:
    """The first `limit` errors: a `detail`, a stable `code`, and where (`pointer`, `parameter`, ...).

    :param body: the parsed request body, to tell a member of it from the name of a union's branch.
    :param texts: messages in the reader's language, by code.
    :param quote: also pass on what validators of the app say, which may repeat the input.
    """
    found = []
    for error in errors[:limit]:
        code = str(error.get("type", "invalid"))  # an error that the app raised itself may have anything
        place = _place(code, error.get("loc") or (), body)
        found.append({"detail": _text(code, error, texts, quote), **place, "code": code})
    return found


def _text(code: str, error: Mapping[str, Any], texts: Texts | None, quote: bool) -> str:
    if texts is not None and code in texts:
        with suppress(ValueError, TypeError):
            return filled(texts[code], error.get("ctx") or {})
    if quote and code not in _TEXTS:
        return str(error.get("msg", _ANY))
    return _pydantics(code, error) if code in _QUOTES_NOTHING else _TEXTS.get(code, _ANY)


def _pydantics(code: Any, error: Mapping[str, Any]) -> str:
    """What pydantic itself says: a validator of the app may have said something else under the same code."""
    bounds = error.get("ctx")
    try:
        return PydanticKnownError(code, bounds).message() if bounds else _without_bounds(code)
    except Exception:  # it has other bounds than pydantic's errors of that code
        return _ANY


@lru_cache(maxsize=256)
def _without_bounds(code: Any) -> str:
    return PydanticKnownError(code).message()


def _place(code: str, loc: Sequence[Any], body: Any) -> dict[str, Any]:
    where = str(loc[0]) if loc else "body"
    member = _PLACES.get(where)
    if member is not None:
        return {member: str(loc[1])[:_LONGEST_NAME]} if len(loc) > 1 else {}
    return {"pointer": _pointer(loc[1:], body, is_missing=code.startswith("missing"))}


def _pointer(loc: Sequence[str | int], body: Any, *, is_missing: bool) -> str:
    """The location as an RFC 6901 pointer into the body as it was sent.

    Pydantic also names the branches of a union on the way; those are not in the body and are left out.
    """
    tokens, node = [], body
    last = len(loc) - 1
    for index, step in enumerate(loc[:_DEEPEST]):
        if isinstance(step, int) and isinstance(node, list):
            node = node[step] if step < len(node) else None
        elif (is_object := isinstance(node, MAPPING)) and step in node:
            node = node[step]
        elif (is_object or body is None) and index == last and is_missing:
            node = None
        else:
            continue
        tokens.append("/" + str(step)[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1"))
    return "".join(tokens)
