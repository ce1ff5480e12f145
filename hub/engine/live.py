"""What live views see: the commits of the storage, in their order, from any number on.

One reader per node follows the storage while anybody watches; whoever watches has only a number, the newest
commit it has seen. A slow one lags and is never waited for: it reads what it missed from the storage, and
where that is gone already it is told to begin anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hub.engine.services import Services
from hub.errors import StorageError
from hub.plugin.storage import ChangeSet

_RECENT = 2_000
"""How many change sets are kept at hand for those who lag a little."""
_AT_ONCE = 500
_LOOK_EVERY = 1.0
"""Seconds between looks when nothing was told: another node may have changed something."""
_HEARTBEAT = 15.0
"""Seconds after which a watcher hears that nothing came."""
_COMPANY = 0.02
"""Seconds that news waits for more, so that a busy hub is read a few times a second, not per commit."""
_CROWD = 100
"""So many watchers let it wait as long again: each of them is woken for it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What came after the watcher's number is gone; ``number`` is where it may begin anew."""

    number: int


class LiveFeed:
    """Follows the storage for all who watch."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._recent: deque[ChangeSet] = deque(maxlen=_RECENT)
        self._newest = 0
        self._watchers = 0
        # set, and replaced by a new one, whenever something came
        self._moved = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """How many watch."""
        return self._watchers

    async def follow(self, after: int | None = None) -> AsyncGenerator[Sequence[ChangeSet | Gap], None]:
        """Everything committed after number ``after`` (from now on when None), for ever, as it comes together.

        The first item is a ``Gap`` when ``after`` is None or too long ago: it says where the rest begins. Whenever
        nothing came for a while, nothing is given, so that the watcher notices a reader who has gone.
        """
        await self._join()
        try:
            if after is None:
                after = await self._services.storage.last_change()
                yield (Gap(after),)
            while True:
                moved = self._moved
                items = await self._since(after)
                if items:
                    after = items[-1].number
                    yield items
                elif not await _is_set(moved):
                    yield ()
        finally:
            await self._leave()

    async def _since(self, after: int) -> list[ChangeSet | Gap]:
        if self._recent and self._recent[0].number <= after + 1:
            return [one for one in self._recent if one.number > after]
        found, is_whole = await self._services.storage.changes(after=after, limit=_AT_ONCE)
        newest = await self._services.storage.last_change()
        if not is_whole or after > newest:
            return [Gap(newest)]
        return list(found)

    async def _join(self) -> None:
        self._watchers += 1
        if self._watchers == 1:
            self._newest = await self._services.storage.last_change()
            self._recent.clear()
            self._reader = asyncio.create_task(self._read())

    async def _leave(self) -> None:
        self._watchers -= 1
        if self._watchers == 0 and self._reader is not None:
            reader, self._reader = self._reader, None
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _read(self) -> None:
        with self._services.bus.subscribe(size=1) as news:
            while True:
                with suppress(StorageError):
                    while await self._take():
                        pass
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY):
                        await news.next()
                await asyncio.sleep(_COMPANY * (1 + self._watchers / _CROWD))

    async def _take(self) -> bool:
        """Read what is new; answers whether there may be more at once."""
        found, _ = await self._services.storage.changes(after=self._newest, limit=_AT_ONCE)
        if not found:
            return False
        self._recent.extend(found)
        self._newest = found[-1].number
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return len(found) == _AT_ONCE


async def _is_set(event: asyncio.Event) -> bool:
    """Whether it was set before the heartbeat was due."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_HEARTBEAT):
            await event.wait()
    return event.is_set()
