from __future__ import annotations

import asyncio

from fastapi_prodkit import Claims, JWTAuth


def verified(auth: JWTAuth, token: str) -> Claims:
    return asyncio.run(auth.verify(token))
