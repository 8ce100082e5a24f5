"""Every error as an RFC 9457 problem document."""

from __future__ import annotations

from ..errors import ProblemError
from .client import RemoteProblemError, raise_for_problem
from .emitted import raises
from .middleware import ProblemMiddleware
from .openapi import document_problems
from .pages import problem_pages
from .registry import Problem, Problems, problem

__all__ = [
    "Problem",
    "ProblemError",
    "ProblemMiddleware",
    "Problems",
    "RemoteProblemError",
    "document_problems",
    "problem",
    "problem_pages",
    "raise_for_problem",
    "raises",
]
