"""What is known of one cached route before any request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from secrets import token_hex
from typing import Any

from fastapi.dependencies.models import Dependant
from starlette.requests import Request
from starlette.responses import Response

from .._fastapi import Route, dependants, foreign_class, overridden
from .arguments import Arguments
from .http import Asked
from .identity import digest, spelled
from .inputs import Inputs
from .options import Options

__all__ = ["Plan"]

_SHAPE = (
    "response_class",
    "status_code",
    "response_model",
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
)


class Plan:
    """Keys and stamps for the requests of one route.

    :raises ConfigurationError: if the answers of the route cannot be cached.
    """

    def __init__(self, route: Route, arguments: Arguments, options: Options) -> None:
        assert route.dependant is not None
        path, query = (
            tuple(sorted(each.name for each in fields))
            for fields in (route.dependant.path_params, route.dependant.query_params)
        )
        self.route = route
        self.arguments = arguments
        self.options = options
        self.subject = path or query
        arguments.require_keyable(self.subject)
        self.name = digest(
            (
                options.namespace,
                arguments.name,
                route.host + (route.context.path_format or ""),
                *sorted(route.methods),  # one function may answer another method with other fields
                *(spelled(getattr(route.context, name, None)) for name in _SHAPE),  # and in another app
            )
        )
        self.inputs = self._inputs_of(route.dependant)
        self._provider = getattr(route.context, "dependency_overrides_provider", None)
        self._overridden: tuple[list[tuple[Any, Any]], Inputs] = ([], self.inputs)
        self._stamps = options.static_stamps(arguments, "route")
        self._has_stamps_of_arguments = bool(self.subject or options.tags_of_arguments)
        is_one = self.inputs.is_only_the_url and self.inputs.query == () and not route.dependant.path_params
        self._only_key = (
            f"cache:entry:{digest([self.name])}"
            if is_one
            and not (route.mount or route.host)
            and arguments.key is None
            and not _writes_response(route.dependant)
            else None
        )
        self.has_lane = (
            route.is_plain
            and not route.dependant.dependencies
            and arguments.key is None
            and self.inputs.is_only_the_url
        )

    def inputs_now(self) -> Inputs:
        """The inputs with `app.dependency_overrides` as they are now."""
        overrides = getattr(self._provider, "dependency_overrides", None)
        if not overrides:
            return self.inputs
        items = list(overrides.items())
        state, known = self._overridden
        if not _are_same(state, items):
            assert self.route.dependant is not None
            known = self.inputs
            if any(each.call in overrides for each in dependants(self.route.dependant)):
                dependant = overridden(self.route.dependant, overrides)
                known = replace(self._inputs_of(dependant), overrides=token_hex(8))
            self._overridden = (items, known)
        return known

    def _inputs_of(self, dependant: Dependant) -> Inputs:
        options = self.options
        inputs = Inputs.of(dependant, shared=options.is_shared, grouped=options.is_grouped, vary=options.vary)
        if (handler := foreign_class(self.route)) is not None:
            inputs = replace(inputs, readers=(*inputs.readers, handler), query=None)
        return inputs

    def key(
        self,
        inputs: Inputs,
        request: Request,
        asked: Asked,
        response: Response,
        kwargs: Mapping[str, Any],
        body: str | None,
    ) -> str:
        """The key of the answer to this request."""
        if self._only_key is not None and inputs is self.inputs and not asked.credentials:
            return self._only_key
        scope = request.scope
        parts = [self.name]
        inputs.collect(parts, request, asked.credentials)
        if self.route.mount:
            parts.append(scope.get("root_path", "").removeprefix(scope.get("app_root_path", "")))
        if response.status_code is not None:  # set by a dependency, for this request
            parts += ["status", str(response.status_code)]
        if self.arguments.key is not None:
            parts += ["key", self.arguments.key_identity(kwargs)]
        if body is not None:
            parts += ["body", body]
        return f"cache:entry:{digest(parts)}"

    def stamps(self, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """The stamps that the answer for these arguments carries."""
        if not self._has_stamps_of_arguments:
            return self._stamps
        return self._stamps + self.options.stamps_of(self.arguments, "route", self.subject, kwargs)


def _are_same(before: list[tuple[Any, Any]], now: list[tuple[Any, Any]]) -> bool:
    """By identity: what overrides a dependency need not be hashable, and its equal may do something else."""
    pairs = zip(before, now, strict=False)
    return len(before) == len(now) and all(
        old is new for pair in pairs for old, new in zip(*pair, strict=True)
    )


def _writes_response(dependant: Dependant) -> bool:
    """Whether a dependency could set the status code."""
    return any(each.response_param_name for each in dependants(dependant) if each is not dependant)
