"""Task runs: one task in one execution each, with their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from hub.model.frozen import dataclass


class TaskRunState(StrEnum):
    """Where a task run stands; the names are Kestra's."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RETRYING = "RETRYING"
    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    KILLED = "KILLED"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


_S = TaskRunState
TERMINAL = frozenset({_S.SUCCESS, _S.WARNING, _S.FAILED, _S.SKIPPED, _S.KILLED})
_LIVE = {_S.RUNNING, _S.PAUSED, _S.RETRYING}
ALLOWED: Mapping[TaskRunState, frozenset[TaskRunState]] = {
    _S.CREATED: frozenset(_LIVE | TERMINAL),
    # RUNNING again: the next attempt, or another incarnation took it over; CREATED: handed back unfinished
    _S.RUNNING: frozenset({_S.CREATED} | _LIVE | TERMINAL),
    _S.PAUSED: frozenset(_LIVE | TERMINAL),
    _S.RETRYING: frozenset(_LIVE | TERMINAL),
    **{state: frozenset() for state in TERMINAL},
}


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A stored task run.

    ``path`` is deterministic (``each[3]/book``), so a walk of the tree after a crash finds it again.
    ``decisions`` are the values that decide the path (loop values, branches, deadlines); they are stored
    before use and read, never rendered again. None leaves the stored ones as they are.
    """

    path: str
    task: str
    type: str
    state: TaskRunState
    attempts: int = 0
    outputs: Mapping[str, Any] | None = None
    error: str | None = None
    decisions: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    wake_at: datetime | None = None

    @property
    def scope(self) -> str:
        """The loop iteration it belongs to (``each[3]/``), empty at the top."""
        return scope_of(self.path)


def scope_of(path: str) -> str:
    """The loop iteration that a path lies in: up to its last ``]/``, or empty."""
    end = path.rfind("]/")
    return path[: end + 2] if end >= 0 else ""
