"""One of several processes that share a server: `python -m tests.cache.process URL stampede|hang`."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from fastapi_prodkit import Cache, RedisBackend


async def stampede(backend: RedisBackend) -> None:
    cache = Cache(backend.store)
    calls = []

    @cache(ttl=60)
    async def compute() -> str:
        calls.append(1)
        await asyncio.sleep(0.3)
        return f"by {os.getpid()}"

    await _meet(backend, 4)
    answers = await asyncio.gather(*(compute() for _ in range(50)))
    print(json.dumps({"calls": len(calls), "answers": answers}))


async def hang(backend: RedisBackend) -> None:
    cache = Cache(backend.store, lease=0.6, namespace="hang")

    async def compute() -> str:
        print("computing", flush=True)
        await asyncio.sleep(60)
        return "too late"

    await cache.get_or_set("answer", compute, ttl=60)


async def _meet(backend: RedisBackend, count: int) -> None:
    """Go on when `count` processes are here."""
    for place in range(count):
        if (
            await backend.store.add(f"place:{place}", str(os.getpid()).encode(), ttl=60)
            == b"%d" % os.getpid()
        ):
            break
    while None in await backend.store.get(*(f"place:{place}" for place in range(count))):
        await asyncio.sleep(0.002)


async def main(url: str, mode: str) -> None:
    async with RedisBackend(url, timeout=5.0) as backend:
        await {"stampede": stampede, "hang": hang}[mode](backend)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
