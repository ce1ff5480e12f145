"""The client's own log, at a pace that people can read: it writes a hundred lines a second while a broker is away.

Called before the first client is opened. A line is shown once, and then again after half a minute, with how many
like it there were.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_APART = 30.0
"""Seconds between two lines of one kind."""
_MOST_KINDS = 500


class Quiet(logging.Handler):
    """Passes a line on where none of its kind was passed on lately."""

    def __init__(self, target: logging.Logger, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._target = target
        self._now = now
        self._kinds: dict[tuple[str, object], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind = (record.name, record.msg)
        shown_at, held = self._kinds.get(kind, (float("-inf"), 0))
        now = self._now()
        if now - shown_at < _APART:
            self._kinds[kind] = (shown_at, held + 1)
            return
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        more = f" ({held} more like it in the last {now - shown_at:.0f} s)" if held else ""
        # what is an error to the client is something that it tries again: the trigger says when it is one
        self._target.warning("%s: %s%s", record.name, record.getMessage(), more)


def quieten() -> None:
    """Let the client's log come at a readable pace."""
    theirs = logging.getLogger("aiokafka")
    if not any(isinstance(one, Quiet) for one in theirs.handlers):
        theirs.propagate = False
        theirs.addHandler(Quiet(logging.getLogger("hub.kafka")))
