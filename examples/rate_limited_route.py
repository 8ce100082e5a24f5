"""Logins limited by address and outcome, search limited by plan, answers limited by what they came to."""

from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.requests import HTTPConnection

from fastapi_prodkit import MemoryBackend, ProblemMiddleware, RateLimiter, RateLimitMiddleware, Resources
from fastapi_prodkit.rate_limit import Ban
from fastapi_prodkit.typing import Backend

PLANS = {"free": "2/second;20/minute", "pro": "50/second"}
CUSTOMERS = {"ada": "pro", "bob": "free"}


async def customer(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-customer", "anonymous")  # a real app looks at a token


async def plan(customer: str) -> str:
    return PLANS[CUSTOMERS.get(customer, "free")]  # a real app asks its database; remembered for a second


def create_app(backend: Backend | None = None) -> FastAPI:
    backend = backend or MemoryBackend()
    limiter = RateLimiter(backend.counters)
    app = FastAPI(lifespan=Resources(backend))
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(RateLimitMiddleware)
    failed_logins = limiter("5 per 15 minutes", name="login", statuses={401}, ban=Ban(after=10))
    by_plan = limiter(plan, key=customer, name="search")
    words = limiter("1000/hour", key=customer, name="words")

    @app.post("/login", dependencies=[Depends(failed_logins)])
    async def login(password: str) -> str:
        if password != "tea":
            raise HTTPException(401)
        return "welcome"

    @app.get("/search", dependencies=[Depends(by_plan)])
    async def search(q: str) -> str:
        return f"nothing like {q}"

    @app.get("/poem")
    async def poem(request: Request, lines: int) -> str:
        async with words.reserve(request, cost=lines * 10) as reservation:  # at most ten words a line
            text = "\n".join(["the kettle sings"] * lines)
            reservation.settle(len(text.split()))
        return text

    return app
