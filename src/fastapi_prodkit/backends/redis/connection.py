"""What is needed of a connection of redis-py, some of which has no public name there."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

__all__ = ["PUSHED", "Command", "greet", "pack", "writer_of"]

logger = logging.getLogger("fastapi_prodkit.backends.redis")

Command = tuple[Any, ...]

_NUMBERS = (int, float)

PUSHED = object()
"""What is read in place of a push, which `on_push` was called with."""


async def greet(
    connection: AbstractConnection, greeting: Sequence[Command], on_push: Callable[[Any], None] | None
) -> None:
    """Connect, hand pushes to `on_push` from here on, and see each command of the greeting answered."""
    await connection.connect()
    if on_push is not None:
        _listen(connection, on_push)
    for command in greeting:
        await connection.send_command(*command, check_health=False)
        await connection.read_response(timeout=math.inf)


def pack(command: Command) -> bytes:
    """A command as the protocol has it (RESP); redis-py's own way takes three times as long."""
    parts = [b"*%d\r\n" % len(command)]
    for each in command:
        if each.__class__ is str:
            word = each.encode()
        else:
            word = str(each).encode() if isinstance(each, _NUMBERS) else each
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


def writer_of(connection: AbstractConnection) -> asyncio.StreamWriter | None:
    """Where commands are written without waiting."""
    return connection._writer


def _listen(connection: AbstractConnection, on_push: Callable[[Any], None]) -> None:
    async def hand_over(message: Any) -> object:
        try:
            on_push(message)
        except Exception:
            logger.exception("could not make sense of what the Redis server pushed")
        return PUSHED

    parser: Any = connection._parser
    # all of them: the result of one that it handles itself would pass for the reply to somebody's command
    parser.handle_push_response = hand_over
