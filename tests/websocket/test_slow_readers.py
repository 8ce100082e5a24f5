"""One client that stops reading costs a bounded queue, and nobody else anything."""

import asyncio

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from fastapi_prodkit import Hub, MemoryBackend

from .peers import Client, Server, serving

BIG = "x" * 100_000  # a few hundred of these fill every buffer of the kernel and the server


async def stalled(server: Server) -> Client:
    client = await server.connect("/rooms/a", max_queue=None)
    client.connection.transport.pause_reading()
    return client


async def test_a_stalled_reader_delays_nobody_and_is_freed() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=20, send_timeout=60, close_timeout=0.1)
    async with hub, serving(hub) as server:
        bad, good = await stalled(server), await server.connect("/rooms/a")
        for number in range(300):
            await hub.broadcast("a", [number, BIG])
            assert (await good.json())[0] == number
        await server.until_connections(1)
        bad.connection.transport.resume_reading()
        assert (await bad.closed())[0] == 1006  # it never came back to read the 1013


async def test_a_reader_that_comes_back_in_time_reads_why() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=5, send_timeout=60, close_timeout=5)
    async with hub, serving(hub) as server:
        bad, good = await stalled(server), await server.connect("/rooms/a")
        while hub.sockets > 1:
            await hub.broadcast("a", BIG)
            await good.json()
        bad.connection.transport.resume_reading()
        assert await bad.closed() == (1013, "Too slow: reconnect and catch up.")


async def test_a_reader_stalled_on_few_messages_is_freed_by_time() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=10_000, send_timeout=0.1, close_timeout=0.1)
    async with hub, serving(hub) as server:
        bad = await stalled(server)
        async with asyncio.timeout(10):
            while hub.sockets:
                await hub.broadcast("a", BIG)
        await server.until_connections(0)
        bad.connection.transport.resume_reading()


async def test_dropping_the_oldest_keeps_the_socket_and_the_newest() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=3, overflow="drop_oldest")
    async with hub, serving(hub) as server:
        slow, quick = await stalled(server), await server.connect("/rooms/a")
        for number in range(300):
            await hub.broadcast("a", [number, BIG])
            await quick.json()
        slow.connection.transport.resume_reading()
        numbers = [(await slow.json())[0]]
        while numbers[-1] != 299:
            numbers.append((await slow.json())[0])
    assert numbers[-3:] == [297, 298, 299]
    assert numbers == sorted(numbers)
    assert len(numbers) < 300


async def test_the_goodbye_waits_for_what_was_sent_before() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=1000)
    app = FastAPI()

    @app.websocket("/rooms/a")
    async def endpoint(websocket: WebSocket) -> None:
        async with hub.join(websocket) as member:
            for number in range(200):
                await member.send([number, BIG])

    async with hub, serving(hub, app) as server:
        client = await stalled(server)
        async with asyncio.timeout(5):
            while hub.sockets:  # the endpoint is done, its socket on the way out
                await asyncio.sleep(0.01)
        client.connection.transport.resume_reading()
        assert [(await client.json())[0] for _ in range(200)] == list(range(200))
        assert (await client.closed())[0] == 1000


async def test_an_endpoint_that_waits_for_a_slow_client_learns_that_its_socket_ended() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=3, close_timeout=30)
    app = FastAPI()
    ended = asyncio.Event()
    members = []

    @app.websocket("/rooms/a")
    async def pour(websocket: WebSocket) -> None:
        async with hub.join(websocket) as member:
            members.append(member)
            try:
                while True:
                    await member.send(BIG)
            except WebSocketDisconnect:
                ended.set()
                raise

    async with hub, serving(hub, app) as server:
        client = await stalled(server)
        await asyncio.sleep(0.2)
        members[0].end(3000)
        async with asyncio.timeout(5):
            await ended.wait()
        client.connection.transport.resume_reading()
        assert (await client.closed())[0] == 3000


async def test_an_endpoint_that_sends_too_fast_waits_for_its_client() -> None:
    hub = Hub(MemoryBackend().bus, max_pending=3)
    app = FastAPI()
    sent = 0

    @app.websocket("/rooms/a")
    async def pour(websocket: WebSocket) -> None:
        nonlocal sent
        async with hub.join(websocket) as member:
            for number in range(300):
                await member.send([number, BIG])
                sent += 1

    async with hub, serving(hub, app) as server:
        client = await stalled(server)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert 0 < sent < 300
        client.connection.transport.resume_reading()
        assert [(await client.json())[0] for _ in range(300)] == list(range(300))
