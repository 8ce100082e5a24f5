"""The response and function cache.

cache = Cache(backend.store)
app.add_middleware(CacheMiddleware)

@app.get("/items/{item_id}")
@cache(ttl=60, tags=["items", "item:{item_id}"])
async def get_item(item_id: int) -> Item: ...
"""

from __future__ import annotations

from .cache import Cache
from .codec import Codec
from .middleware import CacheMiddleware

__all__ = ["Cache", "CacheMiddleware", "Codec"]
