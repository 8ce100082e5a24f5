"""Rooms as a client sees them, on every kind of backend."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from websockets.exceptions import InvalidStatus

from fastapi_prodkit import ConfigurationError, Hub, MemoryBackend, ProblemError, UnavailableError
from fastapi_prodkit.backends.memory import MemoryBus
from fastapi_prodkit.typing import Backend
from fastapi_prodkit.websocket import Socket

from .peers import serving


@pytest.fixture
def memory() -> MemoryBackend:
    return MemoryBackend()


def app_of(hub: Hub, body: Callable[[Socket], Coroutine[Any, Any, None]], **options: Any) -> FastAPI:
    """An app whose every socket joins the room `a` and runs `body`."""
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        async with hub.join(websocket, "a", **options) as member:
            await body(member)

    return app


async def listen(member: Socket) -> None:
    async for _ in member:
        pass


async def test_a_broadcast_reaches_everyone_in_the_room_and_nobody_else(backend: Backend) -> None:
    async with Hub(backend.bus) as hub, serving(hub) as server:
        first, second, other = [await server.connect(f"/rooms/{room}") for room in ("a", "a", "b")]
        assert await hub.broadcast("a", {"n": 1})
        assert await hub.broadcast("b", {"n": 2})
        assert [await each.json() for each in (first, second, other)] == [{"n": 1}, {"n": 1}, {"n": 2}]


async def test_what_one_says_everyone_hears_in_order(backend: Backend) -> None:
    async with Hub(backend.bus) as hub, serving(hub) as server:
        first, second = await server.connect("/rooms/a"), await server.connect("/rooms/a")
        for number in range(50):
            await first.send(number)
        for client in (first, second):
            assert [await client.json() for _ in range(50)] == list(range(50))


async def test_fifty_who_come_at_once_all_hear_the_first_message(backend: Backend) -> None:
    async with Hub(backend.bus) as hub, serving(hub) as server:
        clients = await asyncio.gather(*(server.connect("/rooms/a") for _ in range(50)))
        await hub.broadcast("a", "hello")
        assert await asyncio.gather(*(client.json() for client in clients)) == ["hello"] * 50


class SlowBus(MemoryBus):
    """A bus that confirms a subscription when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.confirm: dict[str, asyncio.Event] = {}
        self.heard: set[str] = set()

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes | None]]:
        await self.confirm.setdefault(channel, asyncio.Event()).wait()
        async with super().subscribe(channel) as messages:
            self.heard.add(channel)
            yield messages


async def test_nobody_is_accepted_before_every_room_is_heard() -> None:
    bus = SlowBus()
    hub = Hub(bus)
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        async with hub.join(websocket, "a", "b") as member:
            await member.send("welcome")
            await member.wait_ended()

    async with hub, serving(hub, app) as server:
        connecting = asyncio.create_task(server.connect("/"))
        while len(bus.confirm) < 2:
            await asyncio.sleep(0.005)
        bus.confirm["room:a"].set()
        while "room:a" not in bus.heard:
            await asyncio.sleep(0.005)
        await hub.broadcast("a", "early")
        assert not connecting.done()
        bus.confirm["room:b"].set()
        client = await connecting
        assert [await client.json(), await client.json()] == ["early", "welcome"]


async def test_who_is_on_the_way_in_while_the_hub_closes_is_told_too() -> None:
    bus = SlowBus()
    hub = Hub(bus)
    async with serving(hub) as server:
        async with hub:
            connecting = asyncio.create_task(server.connect("/rooms/a"))
            while not bus.confirm:
                await asyncio.sleep(0.005)
        assert (await (await connecting).closed())[0] == 1012


async def test_a_crowd_hears_everything_in_order(memory: MemoryBackend) -> None:
    async with Hub(memory.bus) as hub, serving(hub) as server:
        clients = await asyncio.gather(*(server.connect("/rooms/a") for _ in range(150)))
        for number in range(5):
            await hub.broadcast("a", number)
        for client in clients:
            assert [await client.json() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_a_loop_of_broadcasts_loses_nothing(backend: Backend) -> None:
    async with Hub(backend.bus, max_pending=5000) as hub, serving(hub) as server:
        client = await server.connect("/rooms/a")
        for number in range(3000):
            await hub.broadcast("a", number)
        assert [await client.json() for _ in range(3000)] == list(range(3000))


async def test_who_left_a_room_hears_nothing_more(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)

    async def wander(member: Socket) -> None:
        async for room in member:
            for old in tuple(member.rooms):
                hub.leave(member, old)
            await hub.enter(member, room)
            await member.send(f"in {room}")

    async with hub, serving(hub, app_of(hub, wander)) as server:
        client = await server.connect("/")
        await client.send("b")
        assert await client.json() == "in b"
        await hub.broadcast("a", "for a")
        await hub.broadcast("b", "for b")
        assert await client.json() == "for b"


async def test_who_leaves_while_a_crowd_is_told_hears_nothing_more(memory: MemoryBackend) -> None:
    members: list[Socket] = []

    async def stay(member: Socket) -> None:
        members.append(member)
        await listen(member)

    async with Hub(memory.bus) as hub, serving(hub, app_of(hub, stay)) as server:
        clients = [await server.connect("/") for _ in range(200)]
        for pause in range(5):  # in one of them half of the crowd is told
            telling = asyncio.create_task(hub.broadcast("a", "told"))
            for _ in range(pause):
                await asyncio.sleep(0)
            for member in members[1:]:
                hub.leave(member, "a")
                member.offer('"left"')
            await telling
            assert await clients[0].json() == "told"
            for member in members[1:]:
                await hub.enter(member, "a")
                member.offer('"back"')
            for client in clients[1:]:
                heard = [await client.json()]
                while heard[-1] != "back":
                    heard.append(await client.json())
                assert heard in (["left", "back"], ["told", "left", "back"])


async def test_models_travel_as_their_json(memory: MemoryBackend) -> None:
    class Order(BaseModel):
        number: int

    async with Hub(memory.bus) as hub, serving(hub) as server:
        client = await server.connect("/rooms/a")
        await hub.broadcast("a", Order(number=7))
        assert await client.json() == {"number": 7}


async def test_a_number_that_json_has_not_travels_as_null(memory: MemoryBackend) -> None:
    async def echo(member: Socket) -> None:
        await member.send([float("nan"), float("inf")])
        await listen(member)

    async with Hub(memory.bus) as hub, serving(hub, app_of(hub, echo)) as server:
        client = await server.connect("/")
        assert await client.json() == [None, None]
        await hub.broadcast("a", [float("nan"), float("inf")])
        assert await client.json() == [None, None]


async def test_the_hub_is_a_dependency_that_a_test_overrides(memory: MemoryBackend) -> None:
    hub, other = Hub(memory.bus), Hub(memory.bus)
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, injected: Annotated[Hub, Depends(hub)]) -> None:
        async with injected.join(websocket, "a") as member:
            await member.send(injected is other)

    async with hub, other, serving(hub, app) as server:
        assert await (await server.connect("/")).json() is False
        app.dependency_overrides[hub] = other
        assert await (await server.connect("/")).json() is True


@pytest.mark.parametrize(
    ("offered", "spoken", "chosen"),
    [
        (["bearer", "the.secret.token"], [], "bearer"),
        (["bearer", "the.secret.token", "chat.v1"], ["chat.v2", "chat.v1"], "chat.v1"),
        (["chat.v1", "chat.v2"], ["chat.v2", "chat.v1"], "chat.v2"),
        (["chat.v1"], [], None),
        ([], ["chat.v1"], None),
    ],
)
async def test_the_subprotocol_is_one_of_the_offered_and_never_the_token(
    offered: list[str], spoken: list[str], chosen: str | None, memory: MemoryBackend
) -> None:
    async with Hub(memory.bus) as hub, serving(hub, app_of(hub, listen, subprotocols=spoken)) as server:
        client = await server.connect("/", subprotocols=offered or None)
        assert client.connection.subprotocol == chosen


@pytest.mark.parametrize(
    ("message", "code"),
    [("{not json", 1007), ("NaN", 1007), (b"bytes", 1003), ('"' + "x" * 999 + '"', 1009), ("é" * 501, 1009)],
)
async def test_a_message_that_cannot_be_read_has_its_code(
    message: str | bytes, code: int, memory: MemoryBackend
) -> None:
    async with Hub(memory.bus, max_message_size=1000) as hub, serving(hub) as server:
        client = await server.connect("/rooms/a")
        await client.connection.send(message)
        assert (await client.closed())[0] == code


async def test_a_message_of_exactly_the_limit_is_read(memory: MemoryBackend) -> None:
    async with Hub(memory.bus, max_message_size=1000) as hub, serving(hub) as server:
        client = await server.connect("/rooms/a")
        await client.connection.send('"' + "x" * 998 + '"')
        assert await client.json() == "x" * 998


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (RuntimeError("a secret"), 1011, ""),
        (WebSocketException(4001, "game over"), 4001, "game over"),
        (ProblemError(401, "Log in."), 3000, "Log in."),
        (ProblemError(403, "Not yours."), 3003, "Not yours."),
        (ProblemError(404, "No such order."), 4404, "No such order."),
        (ProblemError(404, "ö" * 100), 4404, "ö" * 61),
        (ProblemError(503, "Away."), 1011, ""),
        (UnavailableError("the store is away"), 1013, "Try again later."),
        (WebSocketException(1006, "no frame may carry it"), 1011, ""),
        (WebSocketException(999), 1011, ""),
        (ExceptionGroup("of a TaskGroup", [ProblemError(403, "Not yours.")]), 3003, "Not yours."),
        (ExceptionGroup("of a TaskGroup", [ProblemError(403), KeyError("a secret")]), 1011, ""),
    ],
)
async def test_an_error_after_the_handshake_is_a_close_code(
    error: Exception, code: int, reason: str, memory: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(member: Socket) -> None:
        raise error

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, fail)) as server:
        client = await server.connect("/")
        assert await client.closed() == (code, reason)
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == (1 if code == 1011 else 0)


@pytest.mark.parametrize("code", [1005, 1006, 1015, 2999, 5000, "1000"])
async def test_a_close_code_that_no_frame_may_carry_is_refused(code: Any, memory: MemoryBackend) -> None:
    async def leave(member: Socket) -> None:
        with pytest.raises(ConfigurationError, match="code="):
            await member.close(code)
        await member.close(4999, "a good one")

    async with Hub(memory.bus) as hub, serving(hub, app_of(hub, leave)) as server:
        client = await server.connect("/")
        assert await client.closed() == (4999, "a good one")


async def test_the_end_of_the_block_says_goodbye_after_everything_sent(memory: MemoryBackend) -> None:
    async def count(member: Socket) -> None:
        for number in range(1000):
            await member.send(number)

    hub = Hub(memory.bus, max_pending=10)
    async with hub, serving(hub, app_of(hub, count)) as server:
        client = await server.connect("/")
        assert [await client.json() for _ in range(1000)] == list(range(1000))
        assert await client.closed() == (1000, "")


async def test_a_socket_does_not_outlive_its_token(memory: MemoryBackend) -> None:
    now = 1000.0
    hub = Hub(memory.bus, clock=lambda: now)
    async with hub, serving(hub, app_of(hub, listen, expires=1000.05)) as server:
        client = await server.connect("/")
        await hub.broadcast("a", "still here")
        assert await client.json() == "still here"
        now = 1000.1
        assert await client.closed() == (3000, "The token has expired.")


async def test_a_message_behind_the_expiry_is_not_handled(memory: MemoryBackend) -> None:
    handled = []

    async def slow(member: Socket) -> None:
        async for message in member:
            handled.append(message)
            await member.wait_ended()

    now = 1000.0
    hub = Hub(memory.bus, clock=lambda: now)
    async with hub, serving(hub, app_of(hub, slow, expires=1000.05)) as server:
        client = await server.connect("/")
        await client.send(1)
        await client.send(2)
        now = 1000.1
        assert (await client.closed())[0] == 3000
    assert handled == [1]


async def test_closing_the_hub_tells_everyone_to_come_again(backend: Backend) -> None:
    hub = Hub(backend.bus)
    async with serving(hub) as server:
        async with hub:
            clients = [await server.connect(f"/rooms/{number}") for number in range(20)]
        assert [(await client.closed())[0] for client in clients] == [1012] * 20
        with pytest.raises(InvalidStatus) as refused:
            await server.connect("/rooms/a")
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"


async def test_an_endpoint_that_goes_on_after_its_socket_ended_is_cancelled(memory: MemoryBackend) -> None:
    cancelled = asyncio.Event()

    async def deaf(member: Socket) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    hub = Hub(memory.bus, close_timeout=0.05)
    async with hub, serving(hub, app_of(hub, deaf)) as server:
        client = await server.connect("/")
        await client.connection.close()
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_an_endpoint_that_only_sends_learns_that_the_client_left(memory: MemoryBackend) -> None:
    left = asyncio.Event()

    async def push(member: Socket) -> None:
        assert member.close_code is None
        await member.wait_ended()
        assert member.close_code == 1000
        left.set()

    hub = Hub(memory.bus, close_timeout=0.05)
    async with hub, serving(hub, app_of(hub, push)) as server:
        client = await server.connect("/")
        for number in range(300):  # nobody reads these
            await client.send(number)
        await client.connection.close()
        async with asyncio.timeout(5):
            await left.wait()


async def test_an_endpoint_that_reads_no_more_learns_that_the_client_left(memory: MemoryBackend) -> None:
    said, left = asyncio.Event(), asyncio.Event()

    async def greet(member: Socket) -> None:
        assert await anext(member) == 0
        await said.wait()
        await member.wait_ended()
        left.set()

    hub = Hub(memory.bus, close_timeout=0.05)
    async with hub, serving(hub, app_of(hub, greet)) as server:
        client = await server.connect("/")
        for number in range(20):  # more than wait to be read
            await client.send(number)
        await (await client.connection.ping())
        said.set()
        await client.connection.close()
        async with asyncio.timeout(5):
            await left.wait()


async def test_sending_to_a_socket_that_ended_ends_the_endpoint_quietly(
    memory: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def chatter(member: Socket) -> None:
        try:
            while True:
                await member.send("tick")
                await asyncio.sleep(0)
        finally:
            ended.set()

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, chatter)) as server:
        client = await server.connect("/")
        await client.connection.close()
        async with asyncio.timeout(5):
            await ended.wait()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_task_group_that_a_leaving_client_ends_is_no_failure(
    memory: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def chatter(member: Socket) -> None:
        while True:
            await member.send("tick")

    async def both(member: Socket) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(chatter(member))
            group.create_task(listen(member))

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, both)) as server:
        client = await server.connect("/")
        await client.connection.close()
        await server.until_connections(0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_sending_to_another_socket_that_has_ended_is_a_failure_that_is_told(
    memory: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    members: list[Socket] = []

    async def forward(member: Socket) -> None:
        members.append(member)
        async for message in member:
            await members[0].wait_ended()
            await members[0].send(message)

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, forward)) as server:
        first, second = await server.connect("/"), await server.connect("/")
        await first.connection.close()
        await second.send("hello")
        assert await second.closed() == (1011, "")
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_an_endpoint_that_sends_by_itself_and_finds_its_client_gone_ends_quietly(
    memory: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def pour(member: Socket) -> None:
        while True:
            await member.websocket.send_text("tick")
            await asyncio.sleep(0)

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, pour)) as server:
        client = await server.connect("/")
        for number in range(40):  # the end is not read, behind what nobody reads
            await client.send(number)
        await client.connection.close()
        await server.until_connections(0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_a_client_said_before_it_left_is_handled(memory: MemoryBackend) -> None:
    handled: list[int] = []
    done = asyncio.Event()

    async def slow(member: Socket) -> None:
        await member.wait_ended()
        async for message in member:
            handled.append(message)
        done.set()

    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, slow)) as server:
        client = await server.connect("/")
        for number in range(5):
            await client.send(number)
        await client.connection.close()
        async with asyncio.timeout(5):
            await done.wait()
    assert handled == [0, 1, 2, 3, 4]


async def test_a_busy_endpoint_makes_its_client_wait_and_loses_nothing(memory: MemoryBackend) -> None:
    go_on = asyncio.Event()

    async def busy(member: Socket) -> None:
        async for message in member:
            await go_on.wait()
            await member.send(message)

    hub = Hub(memory.bus, close_timeout=0.02)
    async with hub, serving(hub, app_of(hub, busy)) as server:
        client = await server.connect("/")
        for number in range(40):
            await client.send(number)
        asyncio.get_running_loop().call_later(0.2, go_on.set)  # ten times what a deaf endpoint gets
        assert [await client.json() for _ in range(40)] == list(range(40))


async def test_a_cancellation_from_outside_is_passed_on(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)
    app = FastAPI()
    passed_on = asyncio.Event()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with hub.join(websocket, "a"):
                task.cancel()
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            passed_on.set()
            task.uncancel()

    async with hub, serving(hub, app) as server:
        client = await server.connect("/")
        assert (await client.closed())[0] == 1012
        assert passed_on.is_set()


async def test_an_on_gap_that_fails_is_a_code_too(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(member: Socket) -> None:
        raise RuntimeError("a secret")

    memory = MemoryBackend(max_pending=1)
    hub = Hub(memory.bus)
    async with hub, serving(hub, app_of(hub, listen, on_gap=fail)) as server:
        client = await server.connect("/")
        for number in range(5):
            await memory.bus.publish("room:a", str(number).encode() * 9)  # more than the room can follow
        assert await client.closed() == (1011, "")
    assert "on_gap failed" in caplog.text


async def _begin_with_a_gap(member: Socket) -> None:
    member.tell_gap()
    await member.wait_ended()


async def test_what_happens_during_on_gap_is_told_afterwards() -> None:
    calls = 0
    go_on = asyncio.Event()

    async def catch_up(member: Socket) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            member.tell_gap()
            member.tell_gap()
            await go_on.wait()
            raise UnavailableError("the store is away")
        await member.send(calls)

    hub = Hub(MemoryBackend().bus)
    async with hub, serving(hub, app_of(hub, _begin_with_a_gap, on_gap=catch_up)) as server:
        client = await server.connect("/")
        go_on.set()
        assert await client.json() == 2
        assert calls == 2


async def test_a_socket_that_was_accepted_before_it_joins_is_refused_with_the_mend(
    memory: MemoryBackend,
) -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with hub.join(websocket, "a"):
            pass

    async with Hub(memory.bus) as hub:
        with (
            pytest.raises(ConfigurationError, match=r"leave out `await websocket\.accept\(\)`"),
            TestClient(app).websocket_connect("/"),
        ):
            pass
        assert hub.sockets == 0


@pytest.mark.parametrize("room", [["a", "b"], 5, None])
async def test_a_room_that_is_no_name_is_refused(memory: MemoryBackend, room: Any) -> None:
    websocket = WebSocket({"type": "websocket", "subprotocols": []}, None, None)  # type: ignore[arg-type]
    async with Hub(memory.bus) as hub:
        with pytest.raises(ConfigurationError, match="give a string"):
            await hub.broadcast(room, "hello")
        with pytest.raises(ConfigurationError, match="give a string"):
            async with hub.join(websocket, room):
                pass


async def test_an_on_gap_that_finds_a_place_away_is_called_until_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0

    async def catch_up(member: Socket) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise UnavailableError("the store is away")
        await member.send("the present state")

    hub = Hub(MemoryBackend().bus)
    async with hub, serving(hub, app_of(hub, _begin_with_a_gap, on_gap=catch_up)) as server:
        client = await server.connect("/")
        assert await client.json() == "the present state"
    assert calls == 3
    assert caplog.text.count("the store is away") == 1


async def test_a_hub_that_was_not_entered_says_so(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)
    with pytest.raises(ConfigurationError, match="hub is not open"):
        async with hub.join(WebSocket({"type": "websocket", "subprotocols": []}, None, None)):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"bus": object()},
        {"max_pending": 0},
        {"max_message_size": 0},
        {"overflow": "drop"},
        {"send_timeout": 0},
        {"send_timeout": float("inf")},
        {"close_timeout": -1},
        {"close_timeout": float("nan")},
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Hub(**{"bus": MemoryBackend().bus, **options})


@pytest.mark.parametrize("options", [{"expires": None}, {"expires": float("nan")}, {"subprotocols": "chat"}])
async def test_an_argument_that_cannot_be_meant_is_refused_before_the_handshake(
    options: dict[str, Any], memory: MemoryBackend
) -> None:
    hub = Hub(memory.bus)
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            async with hub.join(websocket, "a", **options):
                pass
        raise ProblemError(404, "No such room.")

    async with hub, serving(hub, app) as server:
        with pytest.raises(InvalidStatus):
            await server.connect("/")


async def test_a_room_without_a_name_is_refused_before_the_handshake(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        with pytest.raises(ConfigurationError, match="room"):
            async with hub.join(websocket, "a", ""):
                pass
        raise ProblemError(404, "No such room.")

    async with hub, serving(hub, app) as server:
        with pytest.raises(InvalidStatus):
            await server.connect("/")
        assert hub.sockets == 0


async def test_a_hub_that_two_apps_share_outlives_the_first_of_them_that_stops(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)
    async with hub, serving(hub) as server:
        client = await server.connect("/rooms/a")
        async with hub:
            pass
        other = await server.connect("/rooms/a")
        await hub.broadcast("a", "hello")
        assert [await client.json(), await other.json()] == ["hello", "hello"]


async def test_a_hub_is_refused_by_a_second_event_loop_while_the_first_one_runs(
    memory: MemoryBackend,
) -> None:
    hub = Hub(memory.bus)

    async def enter() -> None:
        async with hub:
            pass

    async with hub:
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, enter())


async def test_one_hub_serves_one_loop_after_another(memory: MemoryBackend) -> None:
    hub = Hub(memory.bus)
    for _ in range(2):
        async with hub, serving(hub) as server:
            client = await server.connect("/rooms/a")
            await hub.broadcast("a", "hello")
            assert await client.json() == "hello"
