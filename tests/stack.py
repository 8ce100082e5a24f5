"""What the oldest stack that the package promises to work with does not have."""

from __future__ import annotations

import inspect

import pytest
from fastapi import FastAPI, __version__

__all__ = ["BODY_LIMITS", "TIDY_VALIDATION"]

_VERSION = tuple(map(int, __version__.split(".")[:2]))

BODY_LIMITS = pytest.mark.skipif(
    "max_body_size" not in inspect.signature(FastAPI).parameters, reason="FastAPI 0.164 brought max_body_size"
)
TIDY_VALIDATION = pytest.mark.skipif(
    _VERSION < (0, 165), reason="before 0.165 FastAPI itself left a 422 to the garbage collector"
)
