"""What the type checker must refuse about resources, tasks and health."""

from collections.abc import AsyncIterator

from fastapi_prodkit import Health, Provided, Resources, Tasks

resources, tasks = Resources(), Tasks()


class Pool: ...


class Session: ...


@resources.provide
async def pool() -> AsyncIterator[Pool]:
    yield Pool()


async def send_mail(address: str, *, copies: int) -> None: ...


def ping() -> bool:
    return True


async def use() -> None:
    session: Session = pool.current()  # error: assignment
    other: Provided[Session] = pool  # error: assignment
    pool.current().no_such_method()  # error: attr-defined
    tasks.spawn(send_mail, 3, copies=2)  # error: arg-type
    tasks.spawn(send_mail, "a@example.org")  # error: call-arg
    print(session, other)


Resources("redis://localhost")  # error: arg-type
Health({"database": ping})  # error: dict-item
