"""Everyone who watches a product hears of its new price at once, whichever worker they are connected to."""

import json
import os
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from fastapi_prodkit import Claims, Hub, JWTAuth, Resources
from fastapi_prodkit.auth import bearer_header, subprotocol
from fastapi_prodkit.backends import backend_from_url
from fastapi_prodkit.websocket import Socket

DAY = 24 * 3600


def create_app(auth: JWTAuth | None = None, url: str | None = None) -> FastAPI:
    backend = backend_from_url(url or os.environ.get("REDIS_URL", "memory://"))
    hub = Hub(backend.bus)
    sources = [bearer_header, subprotocol]
    auth = auth or JWTAuth(os.environ["JWT_SECRET"], algorithms=["HS256"], sources=sources)
    app = FastAPI(lifespan=Resources(backend, hub))

    @app.put("/products/{product}/price", dependencies=[Depends(auth.requires("prices:write"))])
    async def set_price(product: str, cents: int) -> None:
        price = {"product": product, "cents": cents}
        await backend.store.set(f"price:{product}", json.dumps(price).encode(), ttl=DAY)
        await hub.broadcast(f"product:{product}", price)

    @app.websocket("/products/{product}/feed")
    async def feed(websocket: WebSocket, product: str, claims: Annotated[Claims, Depends(auth)]) -> None:
        async def tell_price(socket: Socket) -> None:
            """On arrival, and whenever a message may have been missed."""
            [price] = await backend.store.get(f"price:{product}")
            if price is not None:
                await socket.send(json.loads(price))

        room = f"product:{product}"
        async with hub.join(websocket, room, expires=claims.expires, on_gap=tell_price) as socket:
            await tell_price(socket)
            await socket.wait_ended()

    return app
