"""What every `Store` keeps to."""

from __future__ import annotations

import asyncio
import math

from ..typing import Store

__all__ = ["StoreContract"]


class StoreContract:
    """Inherit it and give it a fixture `store`: an open, empty store."""

    async def test_a_key_that_was_never_set_is_none(self, store: Store) -> None:
        assert await store.get("missing") == [None]

    async def test_what_was_set_is_read_back_to_the_byte(self, store: Store) -> None:
        for value in (b"", b"\x00\xff\r\n", b"x" * 100_000):
            await store.set("key", value, ttl=60)
            assert await store.get("key") == [value]

    async def test_many_keys_come_back_in_the_order_asked(self, store: Store) -> None:
        await store.set("a", b"1", ttl=60)
        await store.set("c", b"3", ttl=60)
        assert await store.get("c", "b", "a", "c") == [b"3", None, b"1", b"3"]

    async def test_no_keys_are_no_values(self, store: Store) -> None:
        assert await store.get() == []
        await store.delete()

    async def test_setting_again_replaces_value_and_lifetime(self, store: Store) -> None:
        await store.set("key", b"old", ttl=0.02)
        await store.set("key", b"new", ttl=60)
        await _until(store, "brief", b"x", 0.05)
        assert await store.get("key") == [b"new"]

    async def test_a_lifetime_ends(self, store: Store) -> None:
        await _until(store, "key", b"value", 0.02)
        assert await store.get("key") == [None]

    async def test_no_lifetime_is_no_value(self, store: Store) -> None:
        await store.set("key", b"old", ttl=60)
        await store.set("key", b"new", ttl=0)
        assert await store.get("key") == [None]

    async def test_deleted_is_gone_and_deleting_nothing_is_fine(self, store: Store) -> None:
        await store.set("a", b"1", ttl=60)
        await store.delete("a", "b")
        assert await store.get("a", "b") == [None, None]

    async def test_of_many_who_add_one_wins_and_all_learn_who(self, store: Store) -> None:
        held = await asyncio.gather(
            *(store.add("lease", str(number).encode(), ttl=60) for number in range(20))
        )
        assert len(set(held)) == 1
        assert await store.get("lease") == [held[0]]

    async def test_adding_takes_over_once_the_lifetime_ended(self, store: Store) -> None:
        assert await store.add("lease", b"first", ttl=0.02) == b"first"
        while await store.add("lease", b"second", ttl=60) != b"second":
            await asyncio.sleep(0.005)
        assert await store.get("lease") == [b"second"]

    async def test_only_the_holder_releases(self, store: Store) -> None:
        await store.add("lease", b"mine", ttl=60)
        assert not await store.release("lease", b"yours")
        assert await store.get("lease") == [b"mine"]
        assert await store.release("lease", b"mine")
        assert not await store.release("lease", b"mine")
        assert await store.get("lease") == [None]

    async def test_keys_are_taken_literally(self, store: Store) -> None:
        for key in ("a b", "a*", "{a}b", "ключ", "a\r\nFLUSHALL\r\n", "'); redis.call('FLUSHALL", "\ud800"):
            value = key.encode("utf-8", "surrogatepass")
            await store.set(key, value, ttl=60)
            assert await store.get(key) == [value]

    async def test_an_endless_lifetime_is_a_long_one(self, store: Store) -> None:
        await store.set("key", b"value", ttl=math.inf)
        assert await store.get("key") == [b"value"]


async def _until(store: Store, key: str, value: bytes, ttl: float) -> None:
    """Set it and come back when the store no longer has it."""
    await store.set(key, value, ttl=ttl)
    async with asyncio.timeout(5):
        while await store.get(key) != [None]:
            await asyncio.sleep(0.005)
