"""Executions: one run of a flow each, their states and the allowed moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any

from hub.model.frozen import dataclass
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRun


class ExecutionState(StrEnum):
    """Where an execution stands; the names are Kestra's."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RETRYING = "RETRYING"
    KILLING = "KILLING"
    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    KILLED = "KILLED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


_S = ExecutionState
TERMINAL = frozenset({_S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED, _S.CANCELLED})
_ENDS = {_S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED}
_WAITING = {_S.PAUSED, _S.RETRYING}
ALLOWED: Mapping[ExecutionState, frozenset[ExecutionState]] = {
    _S.CREATED: frozenset({_S.RUNNING, _S.KILLING, _S.CANCELLED, _S.KILLED} | _ENDS | _WAITING),
    _S.QUEUED: frozenset({_S.CREATED, _S.CANCELLED}),
    # RUNNING again: another incarnation took it over
    _S.RUNNING: frozenset({_S.RUNNING, _S.KILLING} | _ENDS | _WAITING),
    _S.PAUSED: frozenset({_S.RUNNING, _S.KILLING, _S.KILLED} | _ENDS | _WAITING),
    _S.RETRYING: frozenset({_S.RUNNING, _S.KILLING, _S.KILLED} | _ENDS | _WAITING),
    _S.KILLING: frozenset({_S.KILLED}),
    # a restart brings back what failed or was killed
    **{state: frozenset() for state in TERMINAL},
    **{
        state: frozenset({_S.CREATED, _S.QUEUED})
        for state in (_S.FAILED, _S.KILLED, _S.WARNING, _S.CANCELLED)
    },
}


class QueueBehavior(StrEnum):
    """What happens to an execution over its flow's concurrency limit."""

    QUEUE = "QUEUE"
    CANCEL = "CANCEL"
    FAIL = "FAIL"

    @property
    def end(self) -> ExecutionState | None:
        """How one over the limit ends at birth; None where it waits."""
        return {"CANCEL": ExecutionState.CANCELLED, "FAIL": ExecutionState.FAILED}.get(self.value)


@dataclass(frozen=True, slots=True)
class Queue:
    """The line an execution stands in: at most ``limit`` of one ``key`` are under way."""

    key: str
    limit: int
    behavior: QueueBehavior = QueueBehavior.QUEUE

    @property
    def over_limit(self) -> str:
        """Why one over the limit ended."""
        return f"over the concurrency limit of {self.limit}"


@dataclass(frozen=True, slots=True)
class Parent:
    """The task run that waits for an execution: killed together, woken by its end."""

    execution_id: str
    path: str

    @property
    def is_over(self) -> str:
        """Why one that comes too late is not started."""
        return f"execution {self.execution_id}, which started it, has been killed or has ended"


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution to be stored."""

    id: str
    flow: FlowKey
    revision: int
    created_at: datetime
    trigger: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """By their ids, converted to their types."""
    labels: Mapping[str, str] = field(default_factory=dict)
    queue: Queue | None = None
    depth: int = 0
    """How many flows led here, one after another."""
    parent: Parent | None = None
    replay_of: str | None = None
    """The execution or event that it repeats."""
    is_derived: bool = False
    """Its id is made from what starts it: one that is known already is not stored again."""
    task_runs: tuple[TaskRun, ...] = ()
    """What counts as done in it already."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A stored execution as lists and the API show it."""

    id: str
    flow: FlowKey
    revision: int
    state: ExecutionState
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    trigger: str | None = None
    event_id: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """By their ids, converted to their types."""
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, Any] | None = None
    error: str | None = None
    trigger_data: Mapping[str, Any] | None = None
    wake_at: datetime | None = None
    depth: int = 0
    parent: Parent | None = None
    replay_of: str | None = None
    restarts: int = 0
    """How often it was brought back after it had ended."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one node incarnation to move one execution; every write carries the fence."""

    execution: Execution
    fence: int
    fresh: bool = False
    """Never run before: there are no task runs to read."""
    suspect: bool = False
    """It was being run, without progress, when its last node went down."""
    suspect_starts: int = 0
    """How many recorded starts as a suspect took the node down."""
    variables: Mapping[str, Any] | None = None
    """The flow's variables, where an earlier claim decided them."""
