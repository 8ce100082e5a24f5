"""A contender in a uvicorn process of its own, and a client for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .client import Answer

__all__ = ["CONNECTIONS", "ServedClient", "served"]

ROOT = Path(__file__).parent.parent
CONNECTIONS = 8

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ServedClient:
    """Asks over connections that stay open."""

    def __init__(self, connections: list[Connection], path: str) -> None:
        self._connections = connections
        self._request = f"GET {path} HTTP/1.1\r\nhost: example.test\r\naccept: */*\r\n\r\n".encode()

    async def ask(self) -> Answer:
        return await self._one(*self._connections[0])

    async def burn(self, count: int, *, at_once: int = CONNECTIONS) -> None:
        """`count` requests, spread over the connections: a multiple of them."""

        async def worker(connection: Connection, share: int) -> None:
            for _ in range(share):
                await self._one(*connection)

        share = count // at_once
        await asyncio.gather(*(worker(each, share) for each in self._connections))

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head[:-4].split(b"\r\n")
        fields = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
        ]
        length = next(int(value) for name, value in fields if name == b"content-length")
        return Answer(int(status.split()[1]), fields, await reader.readexactly(length))


@asynccontextmanager
async def served(suite: str, contender: str, redis_url: str, path: str = "/") -> AsyncIterator[ServedClient]:
    """The contender of that suite under uvicorn; its output goes to the null device, as to a fast disk."""
    from tests.servers import free_port

    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "benchmarks.serve", suite, contender, str(port)],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    connections: list[Connection] = []
    try:
        await _until_open(port, process)
        connections += [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        yield ServedClient(connections, path)
    finally:
        for _, writer in connections:
            writer.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_open(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise RuntimeError(f"uvicorn ended with {process.returncode}")
