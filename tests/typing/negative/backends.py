"""What the type checker must refuse about backends."""

from fastapi_prodkit import MemoryBackend, RedisBackend
from fastapi_prodkit.typing import Bus, Store


class ForgetfulStore:
    async def get(self, *keys: str) -> list[bytes | None]:
        return [None for _ in keys]


store: Store = ForgetfulStore()  # error: assignment
bus: Bus = MemoryBackend().store  # error: assignment
MemoryBackend(1024)  # error: call-arg
RedisBackend()  # error: call-arg
