"""What tests of an app, and of a backend of your own, need.

A contract is a class of tests. Inherit it, give it a fixture, and pytest runs it against your class:

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self):
            async with MyBackend() as backend:
                yield backend.store

The tests are coroutines: run them with pytest-asyncio in its auto mode, or with anyio.
"""

from __future__ import annotations

from .bus import BusContract
from .clock import Clock
from .counters import CountersContract
from .problems import assert_documented, documented
from .store import StoreContract

__all__ = ["BusContract", "Clock", "CountersContract", "StoreContract", "assert_documented", "documented"]
