"""The transport below a WebSocket, for the one thing that ASGI cannot say: hang up now.

uvicorn closes a connection by waiting until everything buffered is written. A client that stays connected and
never reads keeps it open for ever, past keepalive and past SIGTERM.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable

__all__ = ["Transport", "find_transport"]


@runtime_checkable
class Transport(Protocol):
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


def find_transport() -> Transport | None:
    """The transport of the connection that the current task serves; `None` under another server.

    Every WebSocket protocol of uvicorn runs the app in a task of its own, whose coroutine is a method of the
    object that holds the transport.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    protocol = frame.f_locals.get("self") if frame is not None else None
    transport = getattr(protocol, "transport", None)
    return transport if isinstance(transport, Transport) else None
