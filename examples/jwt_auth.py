"""Log in once, then be known: by HTTP requests with a scope, and on a WebSocket before it is accepted."""

import hmac
import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel

from fastapi_prodkit import Claims, JWTAuth, ProblemError
from fastapi_prodkit.auth import bearer_header, subprotocol

PEOPLE = {"ada": ("analytical", ["orders:read", "orders:write"]), "bob": ("builder", ["orders:read"])}


class Login(BaseModel):
    name: str
    password: str


def create_app(secret: str | None = None) -> FastAPI:
    secret = secret or os.environ.get("JWT_SECRET") or secrets.token_urlsafe(48)
    auth = JWTAuth(secret, algorithms=["HS256"], sources=[bearer_header, subprotocol])
    app = FastAPI()

    @app.post("/login")
    async def login(given: Login) -> str:
        password, scopes = PEOPLE.get(given.name, ("", []))
        if not password or not hmac.compare_digest(password.encode(), given.password.encode()):
            raise ProblemError(401, "No such name and password.", headers={"WWW-Authenticate": "Bearer"})
        return auth.issue(given.name, ttl=900, scopes=scopes)

    @app.get("/me")
    async def me(claims: Annotated[Claims, Depends(auth)]) -> Claims:
        return claims

    @app.post("/orders", status_code=201)
    async def order(claims: Annotated[Claims, Depends(auth.requires("orders:write"))]) -> str:
        return f"an order of {claims.subject}"

    @app.websocket("/hello")
    async def hello(websocket: WebSocket, claims: Annotated[Claims, Depends(auth)]) -> None:
        await websocket.accept(subprotocol="bearer" if "bearer" in websocket["subprotocols"] else None)
        await websocket.send_text(f"hello {claims.subject}")
        await websocket.close()

    return app
