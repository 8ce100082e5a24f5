"""Who buys: a login that cannot be guessed at leisure."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Form
from pydantic import BaseModel

from fastapi_prodkit import JWTAuth, ProblemError, RateLimiter

CUSTOMERS = {"ada": ("wonderland", "free"), "grace": ("cobol", "pro")}
"""Name, password and plan. A real shop keeps password hashes."""


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"


def router(auth: JWTAuth, limiter: RateLimiter) -> APIRouter:
    routes = APIRouter(tags=["accounts"])

    @routes.post("/login", dependencies=[Depends(limiter("10/minute"))])
    async def login(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> Token:
        expected, plan = CUSTOMERS.get(username, ("", "free"))
        if not expected or not hmac.compare_digest(password.encode(), expected.encode()):
            raise ProblemError(401, "The name or the password is wrong.", type="wrong-credentials")
        return Token(access_token=auth.issue(sub=username, ttl=3600, plan=plan))

    return routes
