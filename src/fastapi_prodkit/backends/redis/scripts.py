"""Lua that the server runs in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from .url import Wire

__all__ = ["Script"]


class Script:
    """Lua source, sent by its digest; a server that lost it (restart, SCRIPT FLUSH) is sent it again."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, wire: Wire, keys: Sequence[str | bytes], arguments: Sequence[Any]) -> Any:
        try:
            return await wire.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await wire.call("EVAL", self._source, len(keys), *keys, *arguments)
