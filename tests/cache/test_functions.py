from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from fastapi_prodkit import Cache


class Rate(BaseModel):
    currency: str
    value: float


@dataclass(frozen=True)
class Shop:
    name: str


async def test_a_function_is_called_once_for_equal_arguments(cache: Cache) -> None:
    calls = []

    @cache(ttl=60)
    async def rate(currency: str, *, day: int = 1) -> Rate:
        calls.append((currency, day))
        return Rate(currency=currency, value=len(calls))

    first = await rate("EUR")
    second = await rate(currency="EUR", day=1)
    await rate("USD")
    assert first == second == Rate(currency="EUR", value=1)
    assert second is not await rate("EUR")
    assert calls == [("EUR", 1), ("USD", 1)]
    await cache.invalidate(rate, "EUR")
    assert (await rate("EUR")).value == 3
    assert (await rate("USD")).value == 2


async def test_a_sync_function_runs_in_a_thread_and_is_awaited(cache: Cache) -> None:
    import threading

    @cache(ttl=60)
    def where() -> str:
        return threading.current_thread().name

    assert await where() != threading.current_thread().name
    assert await where() == await where()


async def test_one_and_the_string_one_are_apart(cache: Cache) -> None:
    @cache(ttl=60)
    async def spell(value: object) -> str:
        return repr(value)

    values = [1, "1", 1.0, True, None, "", "None", b"1", (1,), [1], {1}, {"a": 1}, Shop("a"), Shop("b")]
    assert [await spell(value) for value in values * 2] == [repr(value) for value in values * 2]


async def test_get_or_set_keeps_what_was_computed(cache: Cache) -> None:
    calls = []

    async def compute() -> dict[str, int]:
        calls.append(1)
        return {"a": len(calls)}

    for _ in range(2):
        assert await cache.get_or_set("totals", compute, ttl=60, tags=["totals"]) == {"a": 1}
    await cache.invalidate_tags("totals")
    assert await cache.get_or_set("totals", compute, ttl=60, tags=["totals"]) == {"a": 2}


async def test_while_disabled_everything_is_computed(cache: Cache) -> None:
    calls = []

    @cache(ttl=60)
    async def count() -> int:
        calls.append(1)
        return len(calls)

    assert await count() == 1
    with cache.disabled():
        assert await count() == 2
    assert await count() == 1
