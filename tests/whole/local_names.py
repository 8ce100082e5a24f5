"""An app factory in a file with `from __future__ import annotations`, as tutorials have it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from fastapi_prodkit import Claims, JWTAuth, ProblemMiddleware

SECRET = "u8Zq0kQm3v7yXc1Jb5Wn9Ts2Lf6Rd4Hg"


def http() -> FastAPI:
    auth = JWTAuth(SECRET, algorithms=["HS256"])
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/me")
    async def me(claims: Annotated[Claims, Depends(auth)]) -> str:
        return claims.subject

    return app


def websocket() -> FastAPI:
    auth = JWTAuth(SECRET, algorithms=["HS256"])
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None: ...

    return app


def dependency() -> FastAPI:
    auth = JWTAuth(SECRET, algorithms=["HS256"])
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    async def name(claims: Annotated[Claims, Depends(auth)]) -> str:
        return claims.subject

    @app.get("/me")
    async def me(name: str = Depends(name)) -> str:
        return name

    return app


def default() -> FastAPI:
    auth = JWTAuth(SECRET, algorithms=["HS256"])
    app = FastAPI()
    app.add_middleware(ProblemMiddleware)

    @app.get("/me")
    async def me(claims: Claims = Depends(auth)) -> str:
        return claims.subject

    return app
