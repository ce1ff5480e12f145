"""Which planned times are due: a pure function of the plan, the clock and what was done before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

ON_TIME = timedelta(seconds=5)
"""Lateness that is no miss: a busy moment, a restart."""

_TICK = timedelta(microseconds=1)

NextAfter = Callable[[datetime], datetime]


def due(
    next_after: NextAfter,
    *,
    last: datetime,
    now: datetime,
    missed: str,
    window: timedelta,
    cap: int,
) -> list[datetime]:
    """The planned times in (``last``, ``now``] that are to be emitted, oldest first.

    What is at most five seconds late is on time. What is later was missed: ``skip`` leaves it out, ``last``
    gives the newest missed one where nothing is on time, ``all`` gives every one; both only as far back as
    ``window``, and at most ``cap`` of them.
    """
    late: deque[datetime] = deque(maxlen=cap if missed == "all" else 1)
    on_time: list[datetime] = []
    low = max(last, now - max(window, ON_TIME) - _TICK)
    if missed == "skip":
        low = max(low, now - ON_TIME - _TICK)
    else:
        low = _near(next_after, low, now - ON_TIME, late.maxlen or 1)
    planned = next_after(low)
    while planned <= now:
        if now - planned <= ON_TIME:
            on_time.append(planned)
        elif now - planned <= window:
            late.append(planned)
        planned = next_after(planned)
    if missed == "skip" or (missed == "last" and on_time):
        return on_time
    return [*late, *on_time]


def _near(next_after: NextAfter, low: datetime, until: datetime, wanted: int) -> datetime:
    """Where to begin, at or after ``low``, to find the ``wanted`` newest planned times before ``until``.

    A month of seconds is not walked for its last hundred: the look back grows until it holds enough.
    """
    length = timedelta(minutes=1)
    while until - length > low:
        start, count = until - length, 0
        planned = next_after(start)
        while planned < until and count < wanted:
            count += 1
            planned = next_after(planned)
        if count >= wanted:
            return start
        length *= 4
    return low
