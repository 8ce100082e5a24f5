"""The server of the bus is killed, restarted, frozen: sockets stay, messages resume, members are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_prodkit import Hub, RedisBackend
from fastapi_prodkit.websocket import Socket

from ..servers import RedisServer
from .peers import Client, Server, serving


async def resync(member: Socket) -> None:
    await member.send("catch up")


@asynccontextmanager
async def process(redis: RedisServer) -> AsyncIterator[tuple[Hub, Server]]:
    """What a process has of its own: a backend, a hub, a server."""
    async with RedisBackend(redis.url) as backend, Hub(backend.bus) as hub:
        app = FastAPI()

        @app.websocket("/")
        async def endpoint(websocket: WebSocket) -> None:
            async with hub.join(websocket, "a", on_gap=resync) as member:
                async for message in member:
                    await hub.broadcast("a", message)

        async with serving(hub, app) as server:
            yield hub, server


async def told(client: Client) -> None:
    """Read until the client is told to catch up."""
    while await client.json() != "catch up":
        pass


async def heard(client: Client, message: str) -> list[Any]:
    """What comes up to `message`."""
    messages = [await client.json()]
    while messages[-1] != message:
        messages.append(await client.json())
    return messages


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_sockets_outlive_the_server_of_the_bus(fault: str, fault_server: RedisServer) -> None:
    async with process(fault_server) as (hub, server), process(fault_server) as (other_hub, other_server):
        here, there = await server.connect("/"), await other_server.connect("/")
        await hub.broadcast("a", "before")
        assert [await here.json(), await there.json()] == ["before", "before"]

        getattr(fault_server, fault)()
        await asyncio.gather(told(here), told(there))  # that the bus is lost
        while await hub.broadcast("a", "alone"):
            pass
        assert await here.json() == "alone"
        late = await server.connect("/")  # the handshake does not depend on the bus

        fault_server.start() if fault == "kill" else fault_server.resume()
        await asyncio.gather(told(here), told(there), told(late))  # that it is heard again
        while not await other_hub.broadcast("a", "after"):
            await asyncio.sleep(0.02)
        assert "alone" not in await heard(here, "after")
        await asyncio.gather(heard(there, "after"), heard(late, "after"))


async def test_a_broadcast_that_was_late_but_not_lost_is_heard_once(fault_server: RedisServer) -> None:
    async with process(fault_server) as (hub, server), process(fault_server) as (_, other_server):
        here, there = await server.connect("/"), await other_server.connect("/")
        fault_server.hang()
        assert not await hub.broadcast("a", "late")
        fault_server.resume()
        while not await hub.broadcast("a", "trying"):
            await asyncio.sleep(0.02)
        await hub.broadcast("a", "after")
        assert (await heard(there, "after")).count("late") == 1
        assert (await heard(here, "after")).count("late") == 1


async def test_who_comes_during_an_outage_is_let_in_and_told_when_it_is_over(
    fault_server: RedisServer,
) -> None:
    async with process(fault_server) as (hub, server):
        fault_server.kill()
        client = await server.connect("/")
        assert not await hub.broadcast("a", "alone")
        assert await client.json() == "alone"
        fault_server.start()
        await told(client)
        while not await hub.broadcast("a", "after"):
            await asyncio.sleep(0.02)
        await heard(client, "after")


async def test_a_dropped_listening_connection_is_replaced(fault_server: RedisServer) -> None:
    async with process(fault_server) as (hub, server):
        client = await server.connect("/")
        fault_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await told(client)  # that it is lost
        await told(client)  # that it is heard again
        await hub.broadcast("a", "again")
        assert await heard(client, "again") == ["again"]


async def test_a_room_is_one_subscription_per_process_and_ends_with_its_last_member(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as (_, server):
        clients = [await server.connect("/") for _ in range(20)]
        counted = redis_server.command("PUBSUB", "NUMSUB", "prodkit:room:a")
        assert counted.endswith(":1\r\n")
        for client in clients:
            await client.connection.close()
        async with asyncio.timeout(5):
            while redis_server.command("PUBSUB", "CHANNELS", "prodkit:room:*") != "*0\r\n":
                await asyncio.sleep(0.01)


async def test_a_socket_that_has_ended_enters_no_more_rooms(redis_server: RedisServer) -> None:
    app = FastAPI()
    done = asyncio.Event()
    async with RedisBackend(redis_server.url) as backend, Hub(backend.bus) as hub:

        @app.websocket("/")
        async def roam(websocket: WebSocket) -> None:
            async with hub.join(websocket) as member:
                await member.wait_ended()
                async for room in member:  # what was said before
                    await hub.enter(member, room)
            done.set()

        async with serving(hub, app) as server:
            client = await server.connect("/")
            await client.send("a")
            await client.connection.close()
            async with asyncio.timeout(5):
                await done.wait()
        assert redis_server.command("PUBSUB", "CHANNELS", "prodkit:room:*") == "*0\r\n"
