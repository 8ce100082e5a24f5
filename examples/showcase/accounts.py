"""Who buys: a login that cannot be guessed at leisure."""

import hmac

from fastapi import APIRouter, Depends
from pydantic import BaseModel, SecretStr

from fastapi_prodkit import JWTAuth, ProblemError, RateLimiter, raises

CUSTOMERS = {"ada": ("wonderland", "free"), "grace": ("cobol", "pro")}
"""Name, password and plan. A real shop keeps password hashes."""

PLANS = {"free": "20/minute", "pro": "10/second;200/minute"}


async def plan_of(name: str) -> str:
    """How often a customer may search."""
    _, plan = CUSTOMERS.get(name, ("", "free"))
    return PLANS[plan]


class Credentials(BaseModel):
    name: str
    password: SecretStr


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"


def router(auth: JWTAuth, limiter: RateLimiter) -> APIRouter:
    routes = APIRouter(tags=["accounts"])

    guesses = limiter("10/minute", statuses={401})  # by address, and only what failed counts

    @routes.post("/login", dependencies=[Depends(guesses)])
    @raises(401)
    async def login(credentials: Credentials) -> Token:
        expected, _ = CUSTOMERS.get(credentials.name, ("", "free"))
        given = credentials.password.get_secret_value()
        if not hmac.compare_digest(given.encode(), expected.encode()) or not expected:
            raise ProblemError(401, "The name or the password is wrong.", type="wrong-credentials")
        return Token(access_token=auth.issue(credentials.name, ttl=3600))

    return routes
