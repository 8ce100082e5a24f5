"""A page for each problem type, at the place its URI names."""

from __future__ import annotations

from html import escape
from inspect import cleandoc
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from .._arguments import text
from .._fastapi import iter_routes
from ..errors import ConfigurationError
from .emitted import known_problems
from .registry import Problem, Problems
from .rendering import wants_html

__all__ = ["problem_pages"]


def problem_pages(problems: Problems, *, root_path: str = "") -> APIRouter:
    """A router that serves what the type URIs of `problems` name; include it without a prefix.

    A page says what the docstring of the exception class, or `description`, says. It is JSON unless the
    client asks for HTML. `Problems(base=)` itself serves the list of all.

    :param root_path: with what the base begins that does not reach this app: the prefix that a proxy takes
        off (the server's `--root-path`), or the path at which the app is mounted.
    :raises ConfigurationError: if the base does not begin with it.
    """
    router = APIRouter()
    base = _path_inside(problems, text("root_path", root_path).rstrip("/"))

    @router.get(base, include_in_schema=False)
    async def index(request: Request) -> Response:
        kinds = _known(request, problems)
        if _html(request):
            return _page("Problems", "".join(_link(kind, problems) for kind in kinds))
        return JSONResponse([_document(kind, problems) for kind in kinds])

    @router.get(base + "{slug}", include_in_schema=False)
    async def page(request: Request, slug: str) -> Response:
        kinds = (kind for kind in _known(request, problems) if kind.type == slug)
        kind = next(kinds, None)
        if kind is None:
            raise HTTPException(404, "No problem of this app has this type.")
        if not _html(request):
            return JSONResponse(_document(kind, problems))
        paragraphs = "".join(f"<p>{escape(each)}</p>" for each in _description(kind).split("\n\n"))
        return _page(kind.title, f"<p>Status {kind.status}</p>{paragraphs}")

    return router


def _path_inside(problems: Problems, root_path: str) -> str:
    path = urlsplit(problems.base).path
    inside = path.removeprefix(root_path)
    if root_path and (inside == path or not inside.startswith("/")):
        raise ConfigurationError(
            f"root_path={root_path!r}: Problems(base={problems.base!r}) does not lead there; let the base "
            f"begin with it, as in Problems(base={root_path + '/problems/'!r})"
        )
    return inside


def _known(request: Request, problems: Problems) -> list[Problem]:
    app = request.app
    return known_problems(app, iter_routes(app.routes), problems)


def _html(request: Request) -> bool:
    return wants_html(request.headers.get("accept", ""))


def _document(kind: Problem, problems: Problems) -> dict[str, Any]:
    return {
        "type": problems.uri(kind.type),
        "title": kind.title,
        "status": kind.status,
        "description": _description(kind),
    }


def _link(kind: Problem, problems: Problems) -> str:
    return f'<p><a href="{escape(problems.uri(kind.type))}">{escape(kind.title)}</a></p>'


def _description(kind: Problem) -> str:
    return cleandoc(kind.description)


def _page(title: str, body: str) -> HTMLResponse:
    title = escape(title)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body><h1>{title}</h1>{body}</body></html>",
        headers={"Vary": "Accept"},
    )
