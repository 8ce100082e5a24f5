"""A contender in a uvicorn process of its own, and a client for it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from .client import Answer

__all__ = ["ServedClient", "served"]

ROOT = Path(__file__).parent.parent
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n(?:.+\r\n)*\r\n", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """Sends one request again and again, and does no more with an answer than find its end: the client has a
    core to itself at best, and must not be what is timed."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self._left = 0
        self._done: asyncio.Future[bytes]
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not (self._received.endswith(_LAST_CHUNK) or self._has_all()):
            return
        answer, self._received = self._received, bytearray()
        self._left -= 1
        if self._left > 0:
            self._transport.write(self._request)
        else:
            self._done.set_result(bytes(answer))

    def _has_all(self) -> bool:
        length = _LENGTH.search(self._received)
        return length is not None and len(self._received) >= length.end() + int(length[1])

    def connection_lost(self, error: Exception | None) -> None:
        if self._left > 0:
            self._done.set_exception(error or ConnectionError("the server hung up"))

    def burn(self, count: int) -> asyncio.Future[bytes]:
        """The last of `count` answers."""
        self._done = asyncio.get_running_loop().create_future()
        self._left = count
        self._transport.write(self._request)
        return self._done

    def close(self) -> None:
        self._left = 0
        self._transport.close()


class ServedClient:
    """Asks over connections that stay open."""

    def __init__(self, connections: Sequence[_Connection]) -> None:
        self._connections = connections

    async def ask(self) -> Answer:
        head, _, body = (await self._connections[0].burn(1)).partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        fields = [
            (name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in lines)
        ]
        return Answer(int(status.split()[1]), fields, body)

    async def burn(self, count: int, *, at_once: int) -> None:
        """`count` requests, spread over the connections: a multiple of them."""
        await asyncio.gather(*(each.burn(count // at_once) for each in self._connections[:at_once]))


@asynccontextmanager
async def served(
    suite: str, contender: str, redis_url: str, *, path: str, connections: int
) -> AsyncIterator[ServedClient]:
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
    opened: list[_Connection] = []
    try:
        await _until_open(port, process)
        loop = asyncio.get_running_loop()
        request = f"GET {path} HTTP/1.1\r\nhost: example.test\r\naccept: */*\r\n\r\n".encode()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(request), "127.0.0.1", port)
            opened.append(connection)
        yield ServedClient(opened)
    finally:
        for connection in opened:
            connection.close()
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
