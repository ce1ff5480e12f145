"""Which planned times are due: a pure function of the plan, the clock and what was done before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

ON_TIME = timedelta(seconds=5)
"""Lateness that is no miss: a busy moment, a restart."""

_TICK = timedelta(microseconds=1)
_FEW = 16
"""How many planned times are walked rather than halved."""

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
    ``window``, and at most ``cap`` of them. The work grows with what is given, never with the window.
    """
    late_until = now - ON_TIME - _TICK
    on_time = _times(next_after, max(last, late_until), now)
    if missed == "skip" or (missed == "last" and on_time):
        return on_time
    low = max(last, now - window - _TICK)
    return [*_newest(next_after, low, late_until, cap if missed == "all" else 1), *on_time]


def _newest(next_after: NextAfter, low: datetime, high: datetime, count: int) -> list[datetime]:
    """The newest ``count`` planned times in (``low``, ``high``], found by halving where there are many."""
    few = _times(next_after, low, high, _FEW + 1)
    if len(few) <= _FEW:
        return few[-count:]
    middle = low + (high - low) / 2
    later = _newest(next_after, middle, high, count)
    if len(later) == count:
        return later
    return [*_newest(next_after, low, middle, count - len(later)), *later]


def _times(next_after: NextAfter, low: datetime, high: datetime, most: int | None = None) -> list[datetime]:
    """The planned times in (``low``, ``high``], at most the first ``most``."""
    found: list[datetime] = []
    while low < high and (most is None or len(found) < most):
        low = next_after(low)
        if low <= high:
            found.append(low)
    return found
