"""A cached function or method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConfigurationError, status_of
from .arguments import Arguments
from .codec import Codec
from .engine import Engine, Outcome
from .entry import Entry
from .identity import digest
from .options import Options
from .policy import Policy
from .ticket import Ticket, Waiting

__all__ = ["CachedFunction", "Values"]


class Values:
    """Values in the engine: found, or computed once and kept."""

    def __init__(self, engine: Engine, *, max_bytes: int) -> None:
        self._engine = engine
        self._max_bytes = max_bytes

    async def obtain(
        self,
        key: str,
        stamps: tuple[str, ...],
        policy: Policy,
        ttl: float,
        codec: Codec,
        compute: Callable[[], Awaitable[Any]],
    ) -> Any:
        engine, found = self._engine, None
        while True:
            outcome = await engine.obtain(key, stamps, policy, found)
            if outcome.entry is None:
                break
            try:
                value = codec.decode(outcome.entry.body)
            except Exception:  # it has another shape, such as that from before a deployment
                if found is not None or outcome.found is None:
                    outcome = Outcome(ticket=await engine.afresh(await engine.find(key, stamps)))
                    break
                found = replace(outcome.found, entry=None)
            else:
                self._refresh(outcome, policy, ttl, codec, compute)
                return value
        assert outcome.ticket is not None
        last = outcome.found.entry if outcome.found is not None else None
        if last is not None and not policy.may_serve_on_error(last, engine.clock()):
            last = None
        return await self._compute(outcome.ticket, policy, ttl, codec, compute, last)

    async def _compute(
        self,
        ticket: Ticket,
        policy: Policy,
        ttl: float,
        codec: Codec,
        compute: Callable[[], Awaitable[Any]],
        last: Entry | None = None,
    ) -> Any:
        """
        :param last: what serves where computing fails.
        """
        engine = self._engine
        try:
            try:
                value = await compute()
            except Exception as error:
                saved = () if last is None or status_of(error) < 500 else _decoded(codec, last)
                if last is None or not saved:
                    raise
                ticket.settle(last)
                return saved[0]
            now = engine.clock()
            entry = Entry(codec.encode(value), b"", now, now + ttl, max(0.0, now - ticket.began))
            if len(entry.body) > self._max_bytes:
                ticket.settle(entry)
            await ticket.publish(entry, ttl=ttl + policy.lifetime - policy.ttl)
        except Exception as error:
            ticket.fail(error)
            raise
        finally:
            await ticket.close()
        return value

    def _refresh(
        self,
        outcome: Outcome,
        policy: Policy,
        ttl: float,
        codec: Codec,
        compute: Callable[[], Awaitable[Any]],
    ) -> None:
        if outcome.found is None or outcome.collapsed:
            return
        ticket = self._engine.reserve_refresh(outcome.found, policy)
        if ticket is not None:
            self._engine.spawn(self._refresh_behind(ticket, policy, ttl, codec, compute))

    async def _refresh_behind(
        self,
        ticket: Ticket,
        policy: Policy,
        ttl: float,
        codec: Codec,
        compute: Callable[[], Awaitable[Any]],
    ) -> None:
        try:
            answer = await self._engine.lead(ticket, policy, wait=False)
            if answer is None:
                await self._compute(ticket, policy, ttl, codec, compute)
            else:
                ticket.settle(Waiting.AGAIN)
        except Exception as error:
            self._engine.report(error)
        finally:
            await ticket.close()


def _decoded(codec: Codec, entry: Entry) -> tuple[Any, ...]:
    """The value, alone; nothing if it has another shape by now."""
    try:
        return (codec.decode(entry.body),)
    except Exception:
        return ()


class CachedFunction:
    """Answers calls with stored values, or by calling the function."""

    def __init__(
        self, engine: Engine, arguments: Arguments, options: Options, codec: Callable[[], Codec]
    ) -> None:
        self._engine = engine
        self._values = Values(engine, max_bytes=options.max_bytes)
        self._arguments = arguments
        self._options = options
        self._stamps = options.static_stamps(arguments, "function")
        self._make_codec = codec
        self._codec: Codec | None = None

    async def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        arguments, options = self._arguments, self._options

        async def compute() -> Any:
            return await arguments.call(args, kwargs)

        if options.is_disabled() or arguments.injected:
            return await compute()
        if self._engine.is_ambiguous(arguments.name) and not arguments.is_named:
            raise ConfigurationError(
                f"two different functions are called {arguments.name} and would share answers: give each a "
                "name of its own, as in @cache(ttl=60, name='...')"
            )
        bound = arguments.bind(args, kwargs)
        if self._codec is None:
            self._codec = self._make_codec()
        key = digest((options.namespace, arguments.name, arguments.identity(bound)))
        return await self._values.obtain(
            f"cache:value:{key}",
            self._stamps
            + options.stamps_of(arguments, "function", () if arguments.key else arguments.values, bound),
            options.policy,
            options.draw_ttl(),
            self._codec,
            compute,
        )
