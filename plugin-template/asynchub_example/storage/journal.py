"""What changed, call by call, for live views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from hub.plugin import Change, ChangeSet, Clock


class Journal:
    """The change sets of the storage: one for each call that changed something."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sets: list[ChangeSet] = []
        self._told: list[Change] = []
        self.last = 0
        """The newest set's number."""

    def tell(self, topic: str, id: str, state: str | None, flow: str | None) -> None:
        """Something changed."""
        self._told.append(Change(topic, id, state, flow))

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call of the storage: what it tells becomes one set, or nothing where it raises."""
        self._told = []
        yield
        if self._told:
            self.last += 1
            self._sets.append(ChangeSet(self.last, self._clock.now(), tuple(self._told)))

    def after(self, number: int, limit: int) -> tuple[list[ChangeSet], bool]:
        """Sets above a number, and whether none of them is gone."""
        first = self._sets[0].number if self._sets else self.last + 1
        return [one for one in self._sets if one.number > number][:limit], number >= first - 1

    def forget(self, before: datetime) -> None:
        """Remove what is older."""
        self._sets = [one for one in self._sets if one.at >= before]
