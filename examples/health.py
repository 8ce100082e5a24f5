"""Two questions of an orchestrator: is the process alive, and may it get requests?"""

import os

from fastapi import FastAPI

from fastapi_prodkit import Health, Resources
from fastapi_prodkit.backends import backend_from_url


def create_app(redis_url: str | None = None) -> FastAPI:
    backend = backend_from_url(redis_url or os.environ.get("REDIS_URL", "memory://"))

    async def cache() -> None:
        await backend.store.get("health")

    # a load balancer gets half a second to see that the app is not ready before the server stops listening
    app = FastAPI(lifespan=Resources(backend, notice=0.5))
    app.include_router(Health({"cache": cache}, timeout=1.0))

    @app.get("/")
    async def shop() -> str:
        return "open"

    return app
