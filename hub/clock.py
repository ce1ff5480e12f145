"""The one place that asks what time it is.

Everything that needs the time is handed a ``Clock``; nothing else calls ``time.time`` or ``datetime.now``.
Tests hand in a clock that follows a virtual event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class HubClock:
    """A hub's clock, which may be another's once it is known: several hubs follow that of their storage."""

    now: Callable[[], datetime]
    """The present moment, aware, in UTC: asked the other clock itself."""

    def __init__(self, clock: Clock) -> None:
        self.follow(clock)

    def follow(self, clock: Clock) -> None:
        """From now on show what this one shows."""
        self.now = clock.now


class LoopClock:
    """A clock that moves with the running event loop's own time, for virtual time in tests."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._loop_start: float | None = None

    def now(self) -> datetime:
        moment = asyncio.get_running_loop().time()
        if self._loop_start is None:
            self._loop_start = moment
        return self._start + timedelta(seconds=moment - self._loop_start)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970 in UTC; exact, unlike ``timestamp()``."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC moment of ``to_micros``."""
    return _EPOCH + timedelta(0, 0, micros)  # by name it takes half as long again


def iso(moment: datetime) -> str:
    """A moment as the API spells it: ISO 8601 in UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def process_age() -> float:
    """How many seconds this process has lived, imports included; 0 where the system does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rsplit(b")", 1)[1].split()[19])
        with open("/proc/uptime", "rb") as file:
            return max(float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError):
        return 0.0
