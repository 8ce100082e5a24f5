"""What the type checker must refuse about the cache."""

from fastapi_prodkit import Cache, MemoryBackend

cache = Cache(MemoryBackend().store)


@cache(ttl=60)
async def get_item(item_id: int, lang: str = "en") -> str:
    return f"{item_id} {lang}"


@cache(ttl=60)
def sync(number: int) -> int:
    return number


async def use_number(number: int) -> None: ...


async def use() -> None:
    await get_item(1)
    await cache.invalidate(get_item, item_id=1)
    await cache.invalidate(get_item, 1, lang="de")
    await get_item("1")  # error: arg-type
    await cache.invalidate(get_item, item_id="1")  # error: call-overload
    await cache.invalidate(get_item, number=1)  # error: call-overload
    await cache.invalidate(get_item)  # error: call-overload
    await use_number(sync(1))  # error: arg-type
    cache(60)  # error: call-arg
    Cache(MemoryBackend())  # error: arg-type
