"""Rooms as a client sees them, on every kind of backend."""

from __future__ import annotations

from fastapi_prodkit import Hub
from fastapi_prodkit.typing import Backend

from .peers import serving


async def test_a_broadcast_reaches_everyone_in_the_room_and_nobody_else(backend: Backend) -> None:
    async with Hub(backend.bus) as hub, serving(hub) as server:
        first, second, other = [await server.connect(f"/rooms/{room}") for room in ("a", "a", "b")]
        assert await hub.broadcast("a", {"n": 1})
        assert await hub.broadcast("b", {"n": 2})
        assert [await each.json() for each in (first, second, other)] == [{"n": 1}, {"n": 1}, {"n": 2}]
