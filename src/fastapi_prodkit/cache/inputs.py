"""What an answer may depend on: all that the route and its dependencies declare."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.params import File
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery
from fastapi.security.base import SecurityBase
from starlette.datastructures import UploadFile
from starlette.requests import HTTPConnection, Request

from .._fastapi import dependants, field_names
from ..errors import ConfigurationError

__all__ = ["HANDED_OVER", "Inputs", "body_of", "is_unrepeatable"]

Read = Callable[[HTTPConnection], str | None]

CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "x-api-key")
HANDED_OVER = "prodkit_cache_request"  # by this name an endpoint that declares no request is given it


@dataclass(frozen=True, slots=True)
class Inputs:
    """The declared inputs of one route, dependencies included.

    :param query: names of query parameters; `None` if all of them.
    :param reads: what security schemes, and dependencies with a method `__prodkit_reads__`, take from the
        request.
    :param readers: who takes the raw request without saying what of it, and so may read anything.
    :param credentials: whether requests with credentials of their own have answers of their own.
    :param grouped: whether credentials select the answer by way of what `key=` makes of them.
    :param overrides: stands for the overriding dependencies: what one returns need not be in the request.
    """

    query: tuple[str, ...] | None
    headers: tuple[str, ...]
    cookies: tuple[str, ...]
    has_body: bool
    reads: tuple[Read, ...]
    readers: tuple[str, ...]
    credentials: bool
    grouped: bool
    overrides: str = ""
    selecting: frozenset[str] = field(init=False)
    """Every request header field that is part of the key."""
    _declared: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        declared = dict.fromkeys(self.headers) | ({"cookie": None} if self.cookies else {})
        object.__setattr__(self, "_declared", tuple(declared))
        selecting = frozenset(self.vary(CREDENTIALS if self.credentials else ()))
        object.__setattr__(self, "selecting", selecting)

    @classmethod
    def of(cls, dependant: Dependant, *, shared: bool, grouped: bool, vary: Collection[str]) -> Inputs:
        """
        :param shared: whether credentials do not count, were they declared or not.
        :param grouped: whether they count by way of a key.
        :param vary: further header fields that count, in lower case.
        :raises ConfigurationError: if something that is declared cannot be part of a key.
        """
        query: set[str] | None = set()
        headers = set(vary)
        cookies: set[str] = set()
        reads: list[Read] = []
        readers: list[str] = []
        has_body = False
        for each in dependants(dependant):
            names = field_names(each.query_params)
            query = None if names is None or query is None else query | names
            declared = field_names(each.header_params, headers=True)
            if declared is None:
                readers.append(_name(each.call))
            headers |= {name.lower() for name in declared or ()}
            biscuits = field_names(each.cookie_params)
            if biscuits is None:
                headers.add("cookie")
            cookies |= biscuits or set()
            has_body = has_body or bool(each.body_params)
            _check_body(each)
            if each.request_param_name not in (None, HANDED_OVER) or each.http_connection_param_name:
                read = getattr(each.call, "__prodkit_reads__", None) or _read_by_scheme(each.call)
                if read is None:
                    readers.append(_name(each.call))
                else:
                    reads.append(read)
                    headers |= set() if shared else _field_of_scheme(each.call)
        if shared:
            headers -= set(CREDENTIALS).difference(vary)
        if readers:
            query = None
        return cls(
            tuple(sorted(query)) if query is not None else None,
            tuple(sorted(headers)),
            tuple(sorted(cookies)),
            has_body,
            tuple(reads),
            tuple(readers),
            not shared,
            grouped,
        )

    def vary(self, credentials: Collection[str]) -> tuple[str, ...]:
        """The request header fields that select the answer (RFC 9110 section 12.5.5)."""
        if credentials and (self.credentials or self.grouped):
            return tuple(dict.fromkeys((*self._declared, *credentials)))
        return self._declared

    def is_personal(self, request: HTTPConnection, credentials: Mapping[str, str]) -> bool:
        """Whether the answer to this request is for those alone who have its credentials."""
        if not (self.credentials or self.grouped):
            return False
        return bool(credentials) or (bool(self.reads) and any(read(request) for read in self.reads))

    @property
    def is_only_the_url(self) -> bool:
        """Whether nothing but path and query, and credentials if there are any, selects the answer."""
        reads = self.credentials and self.reads
        return not (self.headers or self.cookies or self.has_body or reads or self.readers)

    def collect(self, parts: list[str], request: Request, credentials: Mapping[str, str]) -> None:
        """Add what this request holds for each input, present and absent told apart."""
        scope = request.scope
        if self.overrides:
            parts += ["overrides", self.overrides]
        if path := scope.get("path_params"):
            parts += map(str, path.values())
        if self.query is None:
            parts.append(scope["query_string"].decode("latin-1"))
        elif self.query:
            given = request.query_params if scope["query_string"] else None
            for name in self.query:
                parts += _several(given.getlist(name)) if given is not None else ("0",)
        for name in self.headers:
            parts += _several(request.headers.getlist(name))
        for name in self.cookies:
            value = request.cookies.get(name)
            parts += _several([] if value is None else [value])
        for read in self.reads if self.credentials else ():
            found = read(request)
            parts += _several([] if found is None else [found])
        if self.readers:
            parts += [scope.get("scheme", ""), request.headers.get("host", ""), scope.get("root_path", "")]
            parts.append(scope["path"])
        if self.credentials and credentials:
            parts.append("credentials")
            for name, secret in credentials.items():
                parts += [name, secret]


def is_unrepeatable(request: Request) -> bool:
    """Whether the body was read and its bytes are gone, as those of a form are."""
    return request._stream_consumed and not hasattr(request, "_body")


async def body_of(request: Request) -> str:
    """The body that FastAPI has read and validated already."""
    if getattr(request, "_form", None) is not None:
        form = await request.form()
        return json.dumps([(name, await _form_value(value)) for name, value in form.multi_items()])
    body, kind = await request.body(), request.headers.get("content-type", "")
    text = body.decode("latin-1")
    if _is_json(kind):
        with suppress(ValueError, RecursionError):  # FastAPI could read it where fewer frames were open
            text = json.dumps(json.loads(body))
    return f"{kind}\n{text}"


def _is_json(kind: str) -> bool:
    """Whether FastAPI reads a body of this type as JSON, and does not hand over its bytes."""
    name = kind.partition(";")[0].strip().lower()
    return name == "application/json" or (name.startswith("application/") and name.endswith("+json"))


async def _form_value(value: UploadFile | str) -> str | list[str]:
    if isinstance(value, str):
        return value
    position = value.file.tell()  # a dependency may have read it
    await value.seek(0)
    content = await value.read()
    await value.seek(position)
    return [str(value.filename), str(value.content_type), sha256(content).hexdigest()]


def _several(values: list[str]) -> list[str]:
    return [str(len(values)), *values]


def _check_body(dependant: Dependant) -> None:
    for each in dependant.body_params:
        if isinstance(each.field_info, File):
            raise ConfigurationError(
                f"the file {each.name!r} of {_name(dependant.call)} cannot be part of a cache key: "
                "take @cache off this route"
            )


def _read_by_scheme(call: Any) -> Read | None:
    """What a security scheme of FastAPI reads; `None` for anything else that takes the raw request."""
    if not isinstance(call, SecurityBase) or not type(call).__module__.startswith("fastapi.security."):
        return None
    if isinstance(call, APIKeyQuery):
        name = call.model.name
        return lambda connection: connection.query_params.get(name)
    if isinstance(call, APIKeyHeader):
        header = call.model.name
        return lambda connection: connection.headers.get(header)
    if isinstance(call, APIKeyCookie):
        cookie = call.model.name
        return lambda connection: connection.cookies.get(cookie)
    return lambda connection: connection.headers.get("authorization")


def _field_of_scheme(call: Any) -> set[str]:
    """The header field that a security scheme of FastAPI reads, if it is one."""
    if not isinstance(call, SecurityBase) or isinstance(call, APIKeyQuery):
        return set()
    if isinstance(call, APIKeyHeader):
        return {call.model.name.lower()}
    return {"cookie" if isinstance(call, APIKeyCookie) else "authorization"}


def _name(call: Any) -> str:
    return getattr(call, "__qualname__", None) or type(call).__qualname__
