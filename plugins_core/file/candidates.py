"""Candidates: paths to look at, each with the moment from which on."""

from __future__ import annotations

import heapq
from itertools import count


class Candidates:
    """The earliest first; each path once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, bool]] = {}
        # what stands here and not in the same words above is out of date
        self._line: list[tuple[float, int, str]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._known)

    def put(self, path: str, at: float, *, renamed: bool = False) -> None:
        """Look at a path from a moment on, whatever was said of it before."""
        if self._known.get(path) != (at, renamed):
            self._known[path] = (at, renamed)
            heapq.heappush(self._line, (at, next(self._numbers), path))

    def offer(self, path: str, at: float) -> None:
        """Look at a path, unless that is going to happen anyway."""
        if path not in self._known:
            self.put(path, at)

    def next_at(self) -> float | None:
        """When the first is due."""
        while self._line:
            at, _, path = self._line[0]
            if path in self._known and self._known[path][0] == at:
                return at
            heapq.heappop(self._line)
        return None

    def take_due(self, now: float, limit: int) -> list[tuple[str, bool]]:
        """Those that are due, with whether they were renamed into place; they are candidates no more."""
        due: list[tuple[str, bool]] = []
        while len(due) < limit and (at := self.next_at()) is not None and at <= now:
            _, _, path = heapq.heappop(self._line)
            due.append((path, self._known.pop(path)[1]))
        return due
