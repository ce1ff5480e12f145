"""Which planned times are due: a pure function of the plan, the clock and what was done before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

ON_TIME = timedelta(seconds=5)
"""Lateness that is no miss: a busy moment, a restart."""

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
    planned = next_after(max(last, now - max(window, ON_TIME) - timedelta(microseconds=1)))
    while planned <= now:
        if now - planned <= ON_TIME:
            on_time.append(planned)
        elif now - planned <= window:
            late.append(planned)
        planned = next_after(planned)
    if missed == "skip" or (missed == "last" and on_time):
        return on_time
    return [*late, *on_time]
