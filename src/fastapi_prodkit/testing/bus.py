"""What every `Bus` keeps to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from ..typing import Bus

__all__ = ["BusContract"]


class BusContract:
    """Inherit it and give it a fixture `bus`: an open bus whose listeners may be 1024 messages behind."""

    async def test_every_listener_gets_every_message_in_order(self, bus: Bus) -> None:
        async with bus.subscribe("room") as first, bus.subscribe("room") as second:
            sent = [str(number).encode() for number in range(100)]
            for message in sent:
                await bus.publish("room", message)
            assert await _take(first, 100) == sent
            assert await _take(second, 100) == sent

    async def test_channels_are_apart(self, bus: Bus) -> None:
        async with bus.subscribe("a") as a, bus.subscribe("b") as b:
            await bus.publish("a", b"for a")
            await bus.publish("b", b"for b")
            assert await _take(a, 1) == [b"for a"]
            assert await _take(b, 1) == [b"for b"]

    async def test_messages_arrive_to_the_byte(self, bus: Bus) -> None:
        async with bus.subscribe("room") as messages:
            for message in (b"", b"\x00\xff\r\n", b"x" * 100_000):
                await bus.publish("room", message)
                assert await _take(messages, 1) == [message]

    async def test_fifty_who_come_at_once_all_listen(self, bus: Bus) -> None:
        async with AsyncExitStack() as stack:
            listeners = await asyncio.gather(
                *(stack.enter_async_context(bus.subscribe("crowd")) for _ in range(50))
            )
            await bus.publish("crowd", b"hello")
            taken = await asyncio.gather(*(_take(each, 1) for each in listeners))
        assert taken == [[b"hello"]] * 50

    async def test_publishing_to_nobody_is_fine(self, bus: Bus) -> None:
        await bus.publish("empty", b"hello")

    async def test_who_left_and_came_again_hears_what_is_new(self, bus: Bus) -> None:
        for number in range(5):
            async with bus.subscribe("room") as messages:
                await bus.publish("room", str(number).encode())
                assert await _take(messages, 1) == [str(number).encode()]

    async def test_one_who_leaves_does_not_silence_the_others(self, bus: Bus) -> None:
        async with bus.subscribe("room") as staying:
            async with bus.subscribe("room"):
                pass
            await bus.publish("room", b"hello")
            assert await _take(staying, 1) == [b"hello"]

    async def test_a_slow_listener_is_told_that_it_missed_some(self, bus: Bus) -> None:
        async with bus.subscribe("room") as slow, bus.subscribe("room") as quick:
            for number in range(3000):
                await bus.publish("room", str(number).encode())
                await _take(quick, 1)
            async with asyncio.timeout(5):
                first = await anext(slow)
            assert first is None
            rest = await _take(slow, 10)
            numbers = [int(each) for each in rest if each is not None]
            assert numbers == list(range(numbers[0], numbers[0] + 10))


async def _take(messages: AsyncIterator[bytes | None], count: int) -> list[bytes | None]:
    async with asyncio.timeout(5):
        return [await anext(messages) for _ in range(count)]
