"""What all users of a plugin share: one producer, watcher or session, opened on first use, closed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog

log = structlog.get_logger("hub.engine")

T = TypeVar("T")


class SharedResources:
    """Every shared thing of this hub, by its plugin and key."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Resource] = {}

    async def get(self, type_name: str, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """The value behind ``key`` of the plugin that brings a type; opened once, however many ask at a time.

        Raises what opening raised; the next one who asks tries again.
        """
        name = (type_name.split(".", 1)[0], key)
        found = self._open.get(name)
        if found is None:
            found = self._open[name] = _Resource(open, lambda: self._forget(name))
        value: T = await found.value()
        return value

    def _forget(self, name: tuple[str, str]) -> None:
        self._open.pop(name, None)

    async def close(self) -> None:
        """Close everything, in the reverse order of opening."""
        for resource in reversed(list(self._open.values())):
            await resource.close()


class _Resource:
    """One shared thing; a task of its own opens and closes it, whoever comes and goes meanwhile."""

    def __init__(
        self, open: Callable[[], AbstractAsyncContextManager[Any]], on_end: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._open = open
        self._on_end = on_end
        self._value: asyncio.Future[Any] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = loop.create_task(self._hold())

    async def value(self) -> Any:
        return await asyncio.shield(self._value)

    async def _hold(self) -> None:
        try:
            async with self._open() as value:
                self._value.set_result(value)
                await self._closing.wait()
        except Exception as error:
            if self._value.done():
                log.warning("a shared resource was not closed in order", error=str(error))
            else:
                self._value.set_exception(error)
                self._value.exception()  # retrieved: perhaps nobody waits for it any more
        finally:
            self._on_end()
            self._value.cancel()

    async def close(self) -> None:
        self._closing.set()
        if not self._value.done():
            self._task.cancel()  # still opening: nobody is left who would use it
        await asyncio.wait([self._task])
