"""A wall clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """A wall clock that a test moves by hand; it stands still otherwise.

    A hub of the test kit notices at once when it is moved: what waits for the moment goes on.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._watchers: list[Callable[[], None]] = []
        self._hurries = 0

    def now(self) -> datetime:
        """The present moment, as the test has set it."""
        return self._now

    def advance(self, length: timedelta) -> None:
        """Move the clock; a negative length puts it back."""
        self._now += length
        for watcher in list(self._watchers):
            watcher()

    def move_to(self, moment: datetime) -> None:
        """Move the clock forward to ``moment``; it stays where it is when that is past."""
        if moment > self._now:
            self.advance(moment - self._now)

    @property
    def is_hurrying(self) -> bool:
        """Whether waiting is skipped now: see ``hurrying``."""
        return self._hurries > 0

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Within this block the hub waits for nothing: the clock jumps to whatever it would wait for next."""
        self._hurries += 1
        try:
            yield
        finally:
            self._hurries -= 1

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call ``watcher`` after every move until the block ends."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)
