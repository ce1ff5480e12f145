"""The executions of a memory storage: admission, claims, steps and ends, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

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
    Recorded,
    TaskRun,
    TaskRunState,
    Transition,
    from_micros,
)
from plugins_core.memory.journal import Journal

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
    suspect_started: bool = False
    suspect_starts: int = 0
    variables: Mapping[str, Any] | None = None
    task_runs: dict[str, TaskRun] = field(default_factory=dict)
    logs: list[LogLine] = field(default_factory=list)

    def claim(self) -> Claim:
        """Claim it."""
        self.claimed, self.ready_at, self.progress, self.suspect_started = True, None, False, False
        self.fence += 1
        fresh = self.fence == 1 and not self.task_runs
        return Claim(self.execution, self.fence, fresh, self.suspect, self.suspect_starts, self.variables)

    def end_task_runs(self, at: datetime) -> None:
        """None of its task runs outlives it."""
        self.task_runs = {
            path: run
            if run.ended_at is not None
            else replace(run, state=TaskRunState.KILLED, ended_at=at, wake_at=None)
            for path, run in self.task_runs.items()
        }

    def ready_from(self, at: datetime) -> None:
        """Let it be claimed from then on, or from earlier where it already may."""
        self.ready_at = at if self.ready_at is None else min(self.ready_at, at)


class Executions:
    """Every execution, by id and in the order they came."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kept: dict[str, Kept] = {}
        self._live: dict[str, Kept] = {}
        self._count_of_all = 0

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._kept.values())

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._kept

    def get(self, execution_id: str) -> Kept:
        found = self._kept.get(execution_id)
        if found is None:
            raise NotFound(f'no execution "{execution_id}"')
        return found

    def live(self) -> list[Kept]:
        """Those that have not ended."""
        return list(self._live.values())

    def is_live(self, execution_id: str) -> bool:
        return execution_id in self._live

    def of_event(self, event_id: str) -> list[Execution]:
        """What an event started, without trigger data."""
        found = (kept.execution for kept in self if kept.execution.event_id == event_id)
        return [replace(execution, trigger_data=None) for execution in found]

    def tell(self, kept: Kept) -> None:
        """It stands otherwise now."""
        execution = kept.execution
        self._journal.tell("execution", execution.id, execution.state.value, str(execution.flow))

    # -- coming in

    def add(
        self, new: NewExecution, arrival: Arrival, at: datetime, *, claim: bool
    ) -> tuple[Kept, Claim | None]:
        """Store a new execution, with its claim where it may run and ``claim`` says so."""
        state, error = self._admitted(new)
        event = arrival.event
        self._count_of_all += 1
        kept = Kept(
            self._count_of_all,
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
                depth=new.depth,
                parent=new.parent,
                replay_of=new.replay_of,
            ),
            new.queue,
            task_runs={run.path: run for run in new.task_runs},
        )
        self._kept[new.id] = kept
        if not state.is_terminal:
            self._live[new.id] = kept
        self.tell(kept)
        if state is not _S.CREATED:
            return kept, None
        if claim:
            return kept, kept.claim()
        kept.ready_at = new.created_at
        return kept, None

    def _admitted(self, new: NewExecution) -> tuple[ExecutionState, str | None]:
        if new.parent is not None:
            parent = self._live.get(new.parent.execution_id)
            if parent is None or parent.execution.state is _S.KILLING:
                return _S.CANCELLED, new.parent.is_over
        queue = new.queue
        if queue is None or self.has_room(queue):
            return _S.CREATED, None
        end = queue.behavior.end
        return (_S.QUEUED, None) if end is None else (end, queue.over_limit)

    def has_room(self, queue: Queue) -> bool:
        """Whether one more of a queue may run, past nobody who waits."""
        under_way, queued = self._count(queue.key)
        return under_way < queue.limit and not queued

    def _in_queue(self, key: str) -> list[Kept]:
        return [kept for kept in self._live.values() if kept.queue is not None and kept.queue.key == key]

    def _count(self, key: str) -> tuple[int, int]:
        waiting = sum(kept.execution.state is _S.QUEUED for kept in self._in_queue(key))
        return len(self._in_queue(key)) - waiting, waiting

    # -- being claimed

    def claim_ready(self, limit: int, at: datetime, held: Mapping[str, int]) -> list[Claim]:
        """Claim what may run by ``at``: suspects last, each namespace its share, in it the oldest first."""
        ready = [kept for kept in self._live.values() if kept.ready_at is not None and kept.ready_at <= at]
        chosen: list[Kept] = []
        for suspect in (False, True):
            same = [kept for kept in ready if kept.suspect is suspect]
            chosen += sorted(_in_turn(same, held)[: limit - len(chosen)], key=_age)
        return [kept.claim() for kept in chosen]

    def next_wake_at(self) -> datetime | None:
        return min((kept.ready_at for kept in self._live.values() if kept.ready_at is not None), default=None)

    def take_over(self, at: datetime) -> int:
        """Release every claim; who ended no task run under it is a suspect now."""
        held = [kept for kept in self._live.values() if kept.claimed]
        for kept in held:
            kept.claimed, kept.ready_at, kept.suspect = False, at, not kept.progress
            kept.suspect_starts += kept.suspect_started and not kept.progress
            kept.execution = replace(kept.execution, wake_at=None)
        return len(held)

    # -- being moved

    def step(self, step: Transition) -> Recorded:
        """One step of an execution, without its arrivals. Raises ``FenceRefused``."""
        kept = self._kept.get(step.execution_id)
        if kept is None or not kept.claimed or kept.fence != step.fence:
            raise FenceRefused(f"execution {step.execution_id} is held by another incarnation now")
        for run in step.task_runs:
            kept.task_runs[run.path] = _merged(kept.task_runs.get(run.path), run)
        self._append_logs(kept, step.logs)
        if step.variables is not None:
            kept.variables = step.variables
        if step.progress:
            kept.progress, kept.suspect, kept.suspect_starts = True, False, 0
        elif step.suspect_start:
            kept.suspect_started = True
        if step.state is None and not step.release:
            return Recorded()
        self._change(kept, step)
        if step.state is not None:
            self.tell(kept)
        if step.state is None or not step.state.is_terminal:
            return Recorded()
        del self._live[step.execution_id]
        kept.end_task_runs(step.at)
        claims = self.admit_next(kept.queue, claim=True)
        woken, ready = self.wake_parent(kept, step.at)
        return Recorded(tuple(claims), ready, woken)

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
            kept.claimed, kept.ready_at = False, self._ready_at(step, killing)

    def _ready_at(self, step: Transition, killing: bool) -> datetime | None:
        """From when it may be claimed again; not by time at all where it only waits for others."""
        # asked to be killed while it was letting go: it must be claimed again before all others, to be ended
        if killing:
            return from_micros(0)
        if not all(map(self.is_live, step.waits_for)):
            return min(step.wake_at or step.at, step.at)
        return step.wake_at if step.wake_at is not None or step.waits_for else step.at

    def end(self, kept: Kept, state: ExecutionState, at: datetime, reason: str) -> None:
        """End one that nobody holds; what follows from it is the caller's business."""
        kept.execution = replace(kept.execution, state=state, ended_at=at, error=reason, wake_at=None)
        kept.ready_at = None
        del self._live[kept.execution.id]
        self.tell(kept)

    def revive(self, kept: Kept, state: ExecutionState) -> None:
        """Bring one back that has ended."""
        now = kept.execution
        kept.execution = replace(
            now,
            state=state,
            started_at=None,
            ended_at=None,
            outputs=None,
            error=None,
            wake_at=None,
            restarts=now.restarts + 1,
        )
        kept.suspect, kept.suspect_starts = False, 0
        self._live[now.id] = kept
        self.tell(kept)

    def admit_next(self, queue: Queue | None, *, claim: bool) -> list[Claim]:
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
            self.tell(first)
            if claim:
                claims.append(first.claim())
            else:
                first.ready_at = first.execution.created_at
        return claims

    def wake_parent(self, child: Kept, at: datetime) -> tuple[tuple[str, ...], int]:
        """Let the parent be claimed; answers it where a node holds it, and how many became ready."""
        parent = child.execution.parent
        kept = self._live.get(parent.execution_id) if parent is not None else None
        if kept is None or kept.execution.state is _S.QUEUED:
            return (), 0
        if kept.claimed:
            return (kept.execution.id,), 0
        kept.ready_from(at)
        return (), 1

    def _append_logs(self, kept: Kept, lines: Iterable[LogLine]) -> None:
        kept.logs += [replace(line, number=number) for number, line in enumerate(lines, len(kept.logs) + 1)]

    # -- going away

    def remove(self, limit: int, is_wanted: Callable[[Execution], bool]) -> tuple[tuple[str, ...], bool]:
        """Remove ended ones that no live parent waits for, oldest first; answers them and whether more are left."""
        found = [
            kept.execution.id
            for kept in self._kept.values()
            if kept.execution.ended_at is not None
            and not (kept.execution.parent and self.is_live(kept.execution.parent.execution_id))
            and is_wanted(kept.execution)
        ]
        for execution_id in found[:limit]:
            del self._kept[execution_id]
        return tuple(found[:limit]), len(found) > limit


def _age(kept: Kept) -> tuple[datetime, int]:
    assert kept.ready_at is not None
    return kept.ready_at, kept.number


def _in_turn(ready: list[Kept], held: Mapping[str, int]) -> list[Kept]:
    """The n-th of each namespace before the n+1-th of any, those that are held counted in."""
    turns: dict[str, int] = dict(held)
    ranked: list[tuple[int, Kept]] = []
    for kept in sorted(ready, key=_age):
        namespace = kept.execution.flow.namespace
        turns[namespace] = turns.get(namespace, 0) + 1
        ranked.append((turns[namespace], kept))
    return [kept for _, kept in sorted(ranked, key=lambda one: one[0])]


def _merged(earlier: TaskRun | None, later: TaskRun) -> TaskRun:
    """The later row, keeping what it leaves open; an end is final."""
    if earlier is None:
        return later
    if earlier.ended_at is not None:
        return earlier
    return replace(
        later,
        decisions=later.decisions if later.decisions is not None else earlier.decisions,
        started_at=later.started_at or earlier.started_at,
    )
