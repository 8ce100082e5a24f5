from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field, Json, PrivateAttr, SecretStr, computed_field

from fastapi_prodkit import Cache, CacheMiddleware, ConfigurationError

from .conftest import Connect


class Rate(BaseModel):
    currency: str
    value: float


class Login(BaseModel):
    password: SecretStr


class Shape(BaseModel):
    pass


class Square(Shape):
    side: int


@dataclass(eq=False)
class Point:
    x: int


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


async def test_isolated_finds_nothing_from_outside_and_leaves_nothing(cache: Cache) -> None:
    calls = []

    @cache(ttl=60)
    async def count() -> int:
        calls.append(1)
        return len(calls)

    assert await count() == 1
    with cache.isolated():
        assert await count() == 2
        assert await count() == 2
        await cache.clear()
    assert await count() == 1


async def test_methods_count_the_object_by_its_own_key(cache: Cache) -> None:
    calls = []

    class Repository:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        def __cache_key__(self) -> str:
            return self.tenant

        @cache(ttl=60)
        async def find(self, number: int = 1) -> str:
            calls.append(number)
            return f"{self.tenant} {number}"

        @staticmethod
        @cache(ttl=60)
        async def static(number: int) -> int:
            calls.append(number)
            return number

    assert [await Repository(name).find(1) for name in ("a", "b", "a")] == ["a 1", "b 1", "a 1"]
    assert [await Repository.static(1), await Repository("a").static(1)] == [1, 1]
    assert len(calls) == 3
    await cache.invalidate(Repository.find, Repository("a"), 1)
    await Repository("a").find(1)
    await Repository("b").find(1)
    assert len(calls) == 4
    await cache.invalidate(Repository("a").find, 1)
    await Repository("a").find(1)
    await Repository("b").find(1)
    assert len(calls) == 5


class Shelf:
    size = 1

    def __cache_key__(self) -> str:
        return "of an object, not of the class"

    room: Any


class Wide(Shelf):
    size = 10


async def test_class_methods_count_the_class_by_its_name(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def room(cls: type[Shelf], number: int) -> int:
        calls.append(cls)
        return cls.size * number

    monkeypatch.setattr(Shelf, "room", classmethod(cache(ttl=60)(room)), raising=False)
    assert [await each.room(2) for each in (Shelf, Wide, Shelf, Wide)] == [2, 20, 2, 20]
    assert calls == [Shelf, Wide]
    await cache.invalidate(Wide.room, 2)
    assert [await each.room(2) for each in (Shelf, Wide)] == [2, 20]
    assert calls == [Shelf, Wide, Wide]

    class Local(Shelf):
        pass

    with pytest.raises(ConfigurationError, match="no value identity"):
        await Local.room(1)


async def test_a_value_of_another_shape_is_computed_anew(cache: Cache) -> None:
    class Before(BaseModel):
        name: str

    class After(Before):
        size: int

    calls: list[int] = []

    calls = []

    async def before() -> Before:
        return Before(name="x")

    async def after() -> After:
        calls.append(1)
        await asyncio.sleep(0)
        return After(name="x", size=1)

    await cache.get_or_set("box", before, ttl=60, type=Before)
    boxes = await asyncio.gather(*(cache.get_or_set("box", after, ttl=60, type=After) for _ in range(50)))
    assert boxes == [After(name="x", size=1)] * 50
    assert len(calls) == 1


async def test_a_model_counts_by_what_makes_it_equal(cache: Cache) -> None:
    class Box(BaseModel):
        side: int
        _owner: str = PrivateAttr(default="nobody")

        @cached_property
        def volume(self) -> int:
            return self.side**3

    @cache(ttl=60)
    async def owner(box: Box) -> str:
        calls.append(box.volume)
        return box._owner

    calls: list[int] = []
    ann, bob, again = Box(side=1), Box(side=1), Box(side=1)
    ann._owner, bob._owner, again._owner = "ann", "bob", "ann"
    assert [await owner(box) for box in (ann, bob, ann, again)] == ["ann", "bob", "ann", "ann"]
    assert len(calls) == 2
    await cache.invalidate(owner, ann)
    await owner(again)
    assert len(calls) == 3


async def test_a_value_that_would_come_back_different_is_refused(cache: Cache) -> None:
    @cache(ttl=60)
    async def pair() -> dict[str, object]:
        return {"a": (1, 2)}

    @cache(ttl=60)
    async def bare():  # type: ignore[no-untyped-def]  # the case
        return Rate(currency="EUR", value=1)

    @cache(ttl=60)
    async def login() -> Login:
        return Login(password=SecretStr("secret"))

    @cache(ttl=60)
    async def shapes() -> list[Shape]:
        return [Square(side=1)]

    with pytest.raises(ConfigurationError, match=r"shapes returned a list, which would come back"):
        await shapes()
    with pytest.raises(ConfigurationError, match=r"login returned a Login, which would come back"):
        await login()
    with pytest.raises(ConfigurationError, match=r"pair returned .* which would come back from the cache as"):
        await pair()
    with pytest.raises(ConfigurationError, match=r"bare returned .* annotate what"):
        await bare()


class Camel(BaseModel):
    user_name: str = Field(alias="userName")


class Mixed(Camel):
    city: str = Field(serialization_alias="town")
    zip: str = Field(validation_alias="postcode", serialization_alias="code")


class Strict(BaseModel, extra="forbid"):
    side: int

    @computed_field  # type: ignore[prop-decorator]  # as its documentation has it
    @property
    def area(self) -> int:
        return self.side**2


class Packed(BaseModel):
    numbers: Json[list[int]]


@pytest.mark.parametrize(
    "value",
    [
        Camel(userName="ann"),
        Mixed.model_validate({"userName": "ann", "city": "x", "postcode": "y"}),
        Strict(side=2),
        Packed.model_validate({"numbers": "[1, 2]"}),
    ],
)
async def test_a_model_comes_back_whatever_its_json_is_made_for(cache: Cache, value: BaseModel) -> None:
    async def compute() -> Any:
        return value

    compute.__annotations__["return"] = type(value)
    cached = cache(ttl=60)(compute)
    assert [await cached(), await cached()] == [value, value]


async def test_a_value_without_an_equality_comes_back_with_the_same_parts(cache: Cache) -> None:
    @cache(ttl=60)
    async def points() -> list[Point]:
        return [Point(1), Point(2)]

    for _ in range(2):
        assert [point.x for point in await points()] == [1, 2]


async def test_a_codec_of_ones_own_stores_anything(cache: Cache) -> None:
    class Pair:
        def encode(self, value: object) -> bytes:
            assert isinstance(value, tuple)
            return ",".join(map(str, value)).encode()

        def decode(self, data: bytes) -> object:
            return tuple(map(int, data.split(b",")))

    calls = []

    @cache(ttl=60, codec=Pair())
    async def pair():  # type: ignore[no-untyped-def]  # anything
        calls.append(1)
        return (1, 2)

    assert await pair() == await pair() == (1, 2)
    assert calls == [1]


async def test_a_decorated_endpoint_may_be_called_as_a_function(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @app.get("/rates/{currency}")
    @cache(ttl=60)
    async def rate(currency: str) -> Rate:
        calls.append(currency)
        return Rate(currency=currency, value=len(calls))

    @app.get("/both")
    async def both() -> list[Rate]:
        return [await rate("EUR"), await rate("EUR")]

    async with connect(app) as client:
        assert {each["value"] for each in (await client.get("/both")).json()} == {1.0}
        assert (await client.get("/rates/EUR")).json()["value"] == 2
        assert (await client.get("/rates/EUR")).json()["value"] == 2


async def test_a_cached_dependency_is_injected(cache: Cache, connect: Connect) -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    calls = []

    @cache(ttl=60)
    async def settings(tenant: str) -> dict[str, str]:
        calls.append(tenant)
        return {"tenant": tenant}

    @app.get("/")
    async def index(found: dict[str, str] = Depends(settings)) -> dict[str, str]:
        return found

    async with connect(app) as client:
        for tenant in ("a", "b", "a"):
            assert (await client.get("/", params={"tenant": tenant})).json() == {"tenant": tenant}
    assert calls == ["a", "b"]
