from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from fastapi_prodkit import ConfigurationError, MemoryBackend, Resources, Tasks
from fastapi_prodkit.resources import StartTimeoutError


class Diary(list[str]):
    """What opened and closed, in order."""

    def resource(
        self, name: str, *, opening: Exception | None = None, closing: BaseException | None = None
    ) -> Callable[[], AbstractAsyncContextManager[None]]:
        @asynccontextmanager
        async def resource() -> AsyncIterator[None]:
            if opening is not None:
                raise opening
            self.append(f"open {name}")
            yield
            self.append(f"close {name}")
            if closing is not None:
                raise closing

        resource.__name__ = name
        return resource


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def test_resources_start_in_order_and_stop_in_reverse(diary: Diary) -> None:
    resources = Resources(diary.resource("a"), diary.resource("b")(), diary.resource("c"))
    async with resources(FastAPI()):
        assert diary == ["open a", "open b", "open c"]
    assert diary[3:] == ["close c", "close b", "close a"]


async def test_a_start_that_fails_half_way_closes_what_was_open(
    diary: Diary,
) -> None:
    broken = diary.resource("broken", opening=OSError("no route to host"))
    resources = Resources(diary.resource("a"), diary.resource("b"), broken, diary.resource("d"))
    with pytest.raises(OSError, match="no route to host") as caught:
        async with resources(FastAPI()):
            pytest.fail("it started")
    assert diary == ["open a", "open b", "close b", "close a"]
    assert caught.value.__notes__ == ["while the resource broken started"]


async def test_an_error_while_a_failed_start_is_cleaned_up_is_logged_and_skips_nothing(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    resources = Resources(
        diary.resource("a"),
        diary.resource("b", closing=ValueError("b does not let go")),
        diary.resource("broken", opening=OSError()),
    )
    with pytest.raises(OSError):  # noqa: PT011 -- the type is all it has
        async with resources(FastAPI()):
            pytest.fail("it started")
    assert diary == ["open a", "open b", "close b", "close a"]
    assert [record.getMessage() for record in caplog.records] == ["while the resource b closed"]
    assert "b does not let go" in caplog.text


async def test_every_error_of_a_stop_is_raised_with_the_name_of_its_resource(diary: Diary) -> None:
    resources = Resources(
        diary.resource("a", closing=ValueError("a")),
        diary.resource("b"),
        diary.resource("c", closing=KeyError("c")),
    )
    with pytest.raises(ExceptionGroup, match="did not stop cleanly") as caught:
        async with resources(FastAPI()):
            pass
    assert diary[3:] == ["close c", "close b", "close a"]
    assert [(type(each), each.__notes__) for each in caught.value.exceptions] == [
        (KeyError, ["while the resource c closed"]),
        (ValueError, ["while the resource a closed"]),
    ]


async def test_a_cancellation_while_stopping_skips_nothing_and_stays_a_cancellation(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    resources = Resources(
        diary.resource("a", closing=ValueError("a")),
        diary.resource("b", closing=asyncio.CancelledError()),
    )
    with pytest.raises(asyncio.CancelledError):
        async with resources(FastAPI()):
            pass
    assert diary[2:] == ["close b", "close a"]
    assert "while the resource a closed" in caplog.text


async def test_an_app_that_fails_leaves_no_resource_open(diary: Diary) -> None:
    with pytest.raises(RuntimeError, match="the server broke"):
        async with Resources(diary.resource("without finally"))(FastAPI()):
            raise RuntimeError("the server broke")
    assert diary == ["open without finally", "close without finally"]


async def test_a_start_that_hangs_is_ended_and_named(diary: Diary) -> None:
    @asynccontextmanager
    async def slow_database() -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    resources = Resources(diary.resource("a"), slow_database, start_timeout=0.02)
    with pytest.raises(StartTimeoutError, match=r"slow_database did not start within 0\.02 s"):
        async with resources(FastAPI()):
            pytest.fail("it started")
    assert diary == ["open a", "close a"]


async def test_a_timeout_of_the_resource_itself_keeps_its_own_words() -> None:
    @asynccontextmanager
    async def database() -> AsyncIterator[None]:
        raise TimeoutError("login took too long")
        yield

    with pytest.raises(TimeoutError, match="login took too long") as caught:
        async with Resources(database)(FastAPI()):
            pytest.fail("it started")
    assert not isinstance(caught.value, StartTimeoutError)


async def test_a_stop_that_hangs_does_not_keep_the_others_open(diary: Diary) -> None:
    @asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        async with Resources(diary.resource("a"), hanging, stop_timeout=0.02)(FastAPI()):
            pass
    assert diary == ["open a", "close a"]
    assert caught.value.exceptions[0].__notes__ == ["while the resource hanging closed"]


async def test_tasks_drain_while_everything_that_they_need_is_open(diary: Diary) -> None:
    tasks = Tasks()
    resources = Resources(tasks, diary.resource("pool"))

    async def work() -> None:
        await asyncio.sleep(0)
        diary.append("work done")

    async with resources(FastAPI()):
        tasks.spawn(work)
    assert diary == ["open pool", "work done", "close pool"]


async def test_what_was_opened_last_drains_first(diary: Diary) -> None:
    class Worker:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *exc_info: object) -> None:
            diary.append(f"close {self.name}")

        async def drain(self) -> None:
            diary.append(f"drain {self.name}")
            if self.name == "b":
                raise ValueError("b holds on")

    with pytest.raises(ExceptionGroup) as caught:
        async with Resources(Worker("a"), Worker("b"))(FastAPI()):
            pass
    assert diary == ["drain b", "drain a", "close b", "close a"]
    assert str(caught.value.exceptions[0]) == "b holds on"


async def test_one_object_serves_several_event_loops_one_after_another(diary: Diary) -> None:
    resources = Resources(MemoryBackend(), Tasks(), diary.resource("a"))
    app = FastAPI(lifespan=resources)

    def start_once() -> None:
        with TestClient(app):
            pass

    await asyncio.to_thread(start_once)
    await asyncio.to_thread(start_once)
    assert diary == ["open a", "close a"] * 2


async def test_ready_is_true_between_start_and_stop() -> None:
    resources = Resources()
    assert not resources.is_ready
    async with resources(FastAPI()):
        assert resources.is_ready
    assert not resources.is_ready


async def test_one_resources_object_in_two_places_at_once_is_refused() -> None:
    resources = Resources()
    router = APIRouter(lifespan=resources)
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    with pytest.raises(ConfigurationError, match="included twice starts them twice"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


def test_what_a_lifespan_function_yields_is_request_state() -> None:
    @asynccontextmanager
    async def old_lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"title": app.title}

    app = FastAPI(title="Shop", lifespan=Resources(old_lifespan))

    @app.get("/")
    async def read(request: Request) -> Any:
        return request.state.title

    with TestClient(app) as client:
        assert client.get("/").json() == "Shop"


async def test_two_lifespan_functions_that_yield_the_same_key_are_refused() -> None:
    async def first(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"pool": 1}

    async def second(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"pool": 2}

    with pytest.raises(ConfigurationError, match="second puts 'pool' into the lifespan state"):
        async with Resources(first, second)(FastAPI()):
            pytest.fail("it started")


def test_on_event_handlers_that_fastapi_would_ignore_are_refused() -> None:
    app = FastAPI(lifespan=Resources())
    app.router.on_startup.append(lambda: None)
    with pytest.raises(ConfigurationError, match="ignores on_event"), TestClient(app):
        pytest.fail("it started")


def test_a_route_that_cannot_work_stops_the_start(diary: Diary) -> None:
    class Limit:
        async def __call__(self) -> None: ...

        def __prodkit_check__(self, app: Any, route: Any) -> None:
            raise ConfigurationError(f"{route.path} lacks its middleware")

    app = FastAPI(lifespan=Resources(diary.resource("a")))
    app.get("/items")(Limit())
    with pytest.raises(ConfigurationError, match="/items lacks its middleware"), TestClient(app):
        pytest.fail("it started")
    assert diary == []


async def test_mounted_apps_start_too_once_each_at_any_depth(diary: Diary) -> None:
    def app_with(name: str) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with diary.resource(name)():
                yield

        return FastAPI(lifespan=lifespan)

    inner, admin = app_with("inner"), app_with("admin")
    admin.mount("/inner", inner)
    with_resources = FastAPI(lifespan=Resources(diary.resource("own")))
    with_resources.mount("/deep", app_with("deep"))
    app = FastAPI(lifespan=Resources(diary.resource("a")))
    app.mount("/admin", admin)
    app.mount("/again", admin)
    app.mount("/with-resources", with_resources)
    async with app.router.lifespan_context(app):
        assert diary == ["open a", "open admin", "open inner", "open own", "open deep"]
    assert diary[5:] == ["close deep", "close own", "close inner", "close admin", "close a"]


async def test_the_lifespan_of_a_mounted_app_that_was_handed_over_is_not_started_again(diary: Diary) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with diary.resource("mounted")():
            yield

    mounted = FastAPI(lifespan=lifespan)
    app = FastAPI(lifespan=Resources(mounted.router.lifespan_context, diary.resource("after")))
    app.mount("/", mounted)
    async with app.router.lifespan_context(app):
        assert diary == ["open mounted", "open after"]


async def test_a_mounted_app_that_does_not_start_in_time_is_named(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    app = FastAPI(lifespan=Resources(start_timeout=0.02))
    app.mount("/", FastAPI(lifespan=lifespan))
    caplog.set_level(logging.INFO)
    with pytest.raises(StartTimeoutError, match="lifespan of the mounted FastAPI"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


async def _coroutine_function() -> None: ...


def _generator_function() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resources(3), "int cannot be entered"),  # type: ignore[arg-type]  # the point
        (lambda: Resources(_coroutine_function), "_coroutine_function cannot be entered"),  # type: ignore[arg-type]  # the point
        (lambda: Resources(lambda a, b: None), "takes 2 arguments"),  # type: ignore[arg-type, misc]  # the point
        (lambda: Resources(start_timeout=0), "start_timeout=0"),
        (lambda: Resources(stop_timeout=-1), "stop_timeout=-1"),
        (lambda: Resources(notice=-1), "notice=-1"),
        (lambda: Resources(notice=float("nan")), "notice=nan"),
        (lambda: Resources().provide(_generator_function), "_generator_function provides nothing"),  # type: ignore[arg-type]  # the point
        (lambda: Resources(_generator_function), "_generator_function cannot be entered"),  # type: ignore[arg-type]  # the point
        (lambda: Resources().provide(_coroutine_function), "provides nothing"),  # type: ignore[arg-type]  # the point
        (lambda: Resources().provide(start_timeout=0), "start_timeout=0"),
    ],
)
def test_a_bad_argument_is_refused_when_it_is_given(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("made", [contextmanager(_generator_function), lambda: 5])
async def test_what_a_function_made_that_cannot_be_entered_stops_the_start_by_name(made: Any) -> None:
    resources = Resources()
    made.__name__ = "pool"
    resources.provide(made)
    with pytest.raises(ConfigurationError, match="resource pool cannot be entered"):
        async with resources(FastAPI()):
            pytest.fail("it started")
