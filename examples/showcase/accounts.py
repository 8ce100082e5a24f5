"""Who buys: a login that cannot be guessed at leisure."""

import hmac

from fastapi import APIRouter, Depends
from pydantic import BaseModel, SecretStr

from fastapi_prodkit import JWTAuth, ProblemError, RateLimiter

CUSTOMERS = {"ada": ("wonderland", "free"), "grace": ("cobol", "pro")}
"""Name, password and plan. A real shop keeps password hashes."""


class Credentials(BaseModel):
    name: str
    password: SecretStr


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"


def router(auth: JWTAuth, limiter: RateLimiter) -> APIRouter:
    routes = APIRouter(tags=["accounts"])

    @routes.post("/login", dependencies=[Depends(limiter("10/minute"))])
    async def login(credentials: Credentials) -> Token:
        expected, plan = CUSTOMERS.get(credentials.name, ("", "free"))
        given = credentials.password.get_secret_value()
        if not hmac.compare_digest(given.encode(), expected.encode()) or not expected:
            raise ProblemError(401, "The name or the password is wrong.", type="wrong-credentials")
        return Token(access_token=auth.issue(credentials.name, ttl=3600, plan=plan))

    return routes
