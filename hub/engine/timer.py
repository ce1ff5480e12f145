"""One timer for everything that waits for a moment of the wall clock, so that its jumps are noticed once."""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime

from hub.clock import Clock

_LOOK_EVERY = 1.0
"""Seconds between looks at the wall clock."""


class WallTimer:
    """Wakes its waiters when their moments have come by the wall clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0
        self._handle: asyncio.TimerHandle | None = None

    async def wait_until(self, moment: datetime) -> None:
        """Return once the wall clock shows ``moment`` or later."""
        if self._clock.now() >= moment:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (moment, self._count, future))
        if self._waiting[0][2] is future:
            self._arm()
        await future

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._waiting:
            left = (self._waiting[0][0] - self._clock.now()).total_seconds()
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(min(max(left, 0.0), _LOOK_EVERY), self._look)

    def _look(self) -> None:
        self._handle = None
        now = self._clock.now()
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][2].done()):
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
        self._arm()
