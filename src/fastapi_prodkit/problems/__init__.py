"""Every error as an RFC 9457 problem document."""

from __future__ import annotations

from ..errors import ProblemError
from .middleware import ProblemMiddleware
from .registry import Problem, Problems, problem

__all__ = ["Problem", "ProblemError", "ProblemMiddleware", "Problems", "problem"]
