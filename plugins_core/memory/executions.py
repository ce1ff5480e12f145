"""The executions of a memory storage: admission, claims, steps and ends, without any I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from hub.plugin import (
    Arrival,
    Claim,
    Execution,
    ExecutionState,
    FenceRefused,
    LogLine,
    NewExecution,
    NotFound,
    Queue,
    QueueBehavior,
    TaskRun,
    TaskRunState,
    Transition,
)

_S = ExecutionState


@dataclass(slots=True)
class Kept:
    """One execution with what only a storage knows of it."""

    number: int
    execution: Execution
    queue: Queue | None
    claimed: bool = False
    fence: int = 0
    ready_at: datetime | None = None
    progress: bool = False
    suspect: bool = False
    suspect_starts: int = 0
    task_runs: dict[str, TaskRun] = field(default_factory=dict)
    logs: list[LogLine] = field(default_factory=list)

    def claim(self) -> Claim:
        """Claim it."""
        self.claimed, self.ready_at, self.progress = True, None, False
        self.fence += 1
        return Claim(self.execution, self.fence, self.fence == 1, self.suspect, self.suspect_starts)


class Executions:
    """Every execution, by id and in the order they came."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._live: dict[str, Kept] = {}

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._kept.values())

    def get(self, execution_id: str) -> Kept:
        found = self._kept.get(execution_id)
        if found is None:
            raise NotFound(f'no execution "{execution_id}"')
        return found

    def live(self) -> list[Kept]:
        """Those that have not ended."""
        return list(self._live.values())

    def of_event(self, event_id: str) -> tuple[str, ...]:
        return tuple(kept.execution.id for kept in self if kept.execution.event_id == event_id)

    # -- coming in

    def add(
        self, new: NewExecution, arrival: Arrival, at: datetime, *, claim: bool
    ) -> tuple[Claim | None, bool]:
        """Store a new execution; answers its claim, and whether it may run but was not claimed."""
        state, error = self._admitted(new)
        event = arrival.event
        kept = Kept(
            len(self._kept) + 1,
            Execution(
                id=new.id,
                flow=new.flow,
                revision=new.revision,
                state=state,
                created_at=new.created_at,
                ended_at=at if state.is_terminal else None,
                trigger=new.trigger,
                event_id=event.id if event is not None else None,
                inputs=new.inputs,
                labels=new.labels,
                error=error,
                trigger_data=event.data if event is not None else None,
            ),
            new.queue,
        )
        self._kept[new.id] = kept
        if not state.is_terminal:
            self._live[new.id] = kept
        if state is not _S.CREATED:
            return None, False
        if claim:
            return kept.claim(), False
        kept.ready_at = new.created_at
        return None, True

    def _admitted(self, new: NewExecution) -> tuple[ExecutionState, str | None]:
        queue = new.queue
        if queue is None:
            return _S.CREATED, None
        under_way, queued = self._count(queue.key)
        if under_way < queue.limit and not queued:
            return _S.CREATED, None
        if queue.behavior is QueueBehavior.QUEUE:
            return _S.QUEUED, None
        reason = f"over the concurrency limit of {queue.limit}"
        return (_S.CANCELLED if queue.behavior is QueueBehavior.CANCEL else _S.FAILED), reason

    def _in_queue(self, key: str) -> list[Kept]:
        return [kept for kept in self._live.values() if kept.queue is not None and kept.queue.key == key]

    def _count(self, key: str) -> tuple[int, int]:
        waiting = sum(kept.execution.state is _S.QUEUED for kept in self._in_queue(key))
        return len(self._in_queue(key)) - waiting, waiting

    # -- being moved

    def claim_ready(self, limit: int, at: datetime) -> list[Claim]:
        """Claim what may run by ``at``: suspects last, then oldest first."""
        ready = [kept for kept in self._live.values() if kept.ready_at is not None and kept.ready_at <= at]
        ready.sort(key=lambda kept: (kept.suspect, kept.ready_at, kept.number))
        return [kept.claim() for kept in ready[:limit]]

    def next_wake_at(self) -> datetime | None:
        return min((kept.ready_at for kept in self._live.values() if kept.ready_at is not None), default=None)

    def take_over(self, at: datetime) -> int:
        """Release every claim; who ended no task run under it is a suspect now."""
        held = [kept for kept in self._live.values() if kept.claimed]
        for kept in held:
            kept.claimed, kept.ready_at, kept.suspect = False, at, not kept.progress
            kept.execution = replace(kept.execution, wake_at=None)
        return len(held)

    def step(self, step: Transition) -> list[Claim]:
        """One step of an execution; answers the claims that its end brought. Raises ``FenceRefused``."""
        kept = self._kept.get(step.execution_id)
        if kept is None or not kept.claimed or kept.fence != step.fence:
            raise FenceRefused(f"execution {step.execution_id} is held by another incarnation now")
        for run in step.task_runs:
            kept.task_runs[run.path] = _merged(kept.task_runs.get(run.path), run)
        if step.logs:
            self.append_logs(step.execution_id, list(step.logs))
        if step.progress:
            kept.progress, kept.suspect, kept.suspect_starts = True, False, 0
        elif step.suspect_start:
            kept.suspect_starts += 1
        if step.state is None and not step.release:
            return []
        self._change(kept, step)
        if step.state is not None and step.state.is_terminal:
            del self._live[step.execution_id]
            return self._admit_next(kept.queue, claim=True)
        return []

    def _change(self, kept: Kept, step: Transition) -> None:
        now = kept.execution
        terminal = step.state is not None and step.state.is_terminal
        killing = now.state is _S.KILLING and not terminal
        started = step.started_at or (step.at if step.state is _S.RUNNING else None)
        kept.execution = replace(
            now,
            state=now.state if killing or step.state is None else step.state,
            started_at=now.started_at or started,
            ended_at=step.at if terminal else None,
            outputs=step.outputs if step.outputs is not None else now.outputs,
            error=step.error if step.error is not None else now.error,
            wake_at=None if terminal else step.wake_at,
        )
        if terminal:
            kept.claimed, kept.ready_at = False, None
        elif step.release:
            # asked to be killed while it was letting go: it must be claimed again at once, to be ended
            kept.claimed = False
            kept.ready_at = step.at if killing else step.wake_at or step.at

    def _admit_next(self, queue: Queue | None, *, claim: bool) -> list[Claim]:
        """Let the oldest of a queue in, as many as its limit has room for."""
        claims: list[Claim] = []
        while queue is not None:
            waiting = [kept for kept in self._in_queue(queue.key) if kept.execution.state is _S.QUEUED]
            if not waiting:
                break
            first = min(waiting, key=lambda kept: kept.number)
            assert first.queue is not None
            if self._count(queue.key)[0] >= first.queue.limit:
                break
            first.execution = replace(first.execution, state=_S.CREATED)
            if claim:
                claims.append(first.claim())
            else:
                first.ready_at = first.execution.created_at
        return claims

    def request_kill(self, execution_id: str, at: datetime, reason: str) -> Execution:
        """See ``Storage.request_kill``."""
        kept = self.get(execution_id)
        if kept.execution.state.is_terminal:
            return kept.execution
        if kept.claimed:
            kept.execution = replace(kept.execution, state=_S.KILLING)
            return kept.execution
        state = _S.KILLED if kept.fence else _S.CANCELLED
        kept.execution = replace(kept.execution, state=state, ended_at=at, error=reason, wake_at=None)
        kept.ready_at = None
        for path, run in kept.task_runs.items():
            if not run.state.is_terminal:
                kept.task_runs[path] = replace(run, state=TaskRunState.KILLED, ended_at=at, wake_at=None)
        del self._live[execution_id]
        self._admit_next(kept.queue, claim=False)
        return kept.execution

    def append_logs(self, execution_id: str, lines: list[LogLine]) -> None:
        kept = self._kept.get(execution_id)
        if kept is not None:
            first = len(kept.logs) + 1
            kept.logs += [replace(line, number=first + place) for place, line in enumerate(lines)]


def _merged(earlier: TaskRun | None, later: TaskRun) -> TaskRun:
    """The later row, keeping what it leaves open."""
    if earlier is None:
        return later
    return replace(
        later,
        decisions=later.decisions if later.decisions is not None else earlier.decisions,
        started_at=later.started_at or earlier.started_at,
    )
