"""One timer for everything that waits for a moment of the wall clock, so that its jumps are noticed once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

from hub.clock import Clock

_SET_BACK = timedelta(minutes=1)
"""A clock put back by less is one that is being kept in step."""
_LOOK_EVERY = 1.0
"""Seconds between looks at the wall clock."""
_FEW = 64


class WallTimer:
    """Calls back when moments have come by the wall clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[datetime, int, Alarm]] = []
        self._count = 0
        self._cancelled = 0
        self._sleepers: set[asyncio.Future[None]] = set()
        # the latest moment that was seen: one that lies before it by much means a clock that was put back
        self._seen: datetime | None = None
        self._handle: asyncio.TimerHandle | None = None
        self.on_armed: Callable[[datetime], None] | None = None
        """Told of every moment that is waited for; a test's clock may go there at once."""

    def __len__(self) -> int:
        """How many alarms are kept, cancelled ones included."""
        return len(self._waiting)

    async def wait_until(self, moment: datetime) -> None:
        """Return once the wall clock shows ``moment`` or later, or when it was put back."""
        now = self._clock.now()
        if now >= moment:
            return
        self._seen = now if self._seen is None else max(self._seen, now)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(future)
        alarm = self.call_at(moment, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            self._sleepers.discard(future)
            alarm.cancel()

    def call_at(self, moment: datetime, callback: Callable[[], object]) -> Alarm:
        """Call ``callback`` once the wall clock shows ``moment`` or later, never before this returns."""
        self._count += 1
        alarm = Alarm(self, callback)
        heapq.heappush(self._waiting, (moment, self._count, alarm))
        if self._waiting[0][2] is alarm:
            self._arm()
        if self.on_armed is not None:
            self.on_armed(moment)
        return alarm

    @property
    def next_moment(self) -> datetime | None:
        """The earliest moment that is waited for."""
        return min((moment for moment, _, alarm in self._waiting if alarm.callback is not None), default=None)

    def look(self) -> None:
        """Look at the clock now, which was moved by hand."""
        if self._handle is not None:
            self._handle.cancel()
        self._look()

    def _forget_one(self) -> None:
        """An alarm was cancelled; those are dropped together, before they are most of what is kept."""
        self._cancelled += 1
        if self._cancelled > max(len(self._waiting) // 2, _FEW):
            self._waiting = [one for one in self._waiting if one[2].callback is not None]
            heapq.heapify(self._waiting)
            self._cancelled = 0

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
        if self._seen is not None and now < self._seen - _SET_BACK:
            for future in self._sleepers:
                if not future.done():
                    future.set_result(None)
            self._seen = now
        self._seen = now if self._seen is None else max(self._seen, now)
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][2].callback is None):
            alarm = heapq.heappop(self._waiting)[2]
            if alarm.callback is None:
                self._cancelled -= 1
            else:
                callback, alarm.callback = alarm.callback, None
                callback()
        self._arm()


class Alarm:
    """One callback that waits for its moment."""

    __slots__ = ("_timer", "callback")

    def __init__(self, timer: WallTimer, callback: Callable[[], object]) -> None:
        self._timer = timer
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Never call; safe to call twice, and after it was called."""
        if self.callback is not None:
            self.callback = None
            self._timer._forget_one()
