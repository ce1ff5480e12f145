"""Record: steps of executions under their fences, and ends that set others going, many steps in few statements.

What a transaction changes it locks first, queues before rows and rows in the order of their ids, parents of those
that end among them: two nodes that end each other's children wait for each other in one direction only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.plugin import (
    ExecutionState,
    FenceRefused,
    LogLine,
    Recorded,
    TaskRun,
    Transition,
    jsontext,
    to_micros,
)
from hub.plugin.rows import log_lines_text
from plugins_core.postgres.accepting import AcceptWork
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.kin import Relations
from plugins_core.postgres.queues import admit_next
from plugins_core.postgres.rows import arrays, clean, together
from plugins_core.postgres.task_runs import UPSERT, columns_of, upsert_task_runs


@dataclass(slots=True)
class RecordWork:
    """One step, and the answer to it."""

    step: Transition
    answer: Recorded | None = None
    error: Exception | None = None
    brings: AcceptWork | None = None
    """Its events with what they start."""

    @property
    def ends(self) -> bool:
        return self.step.state is not None and self.step.state.is_terminal


async def relations_of(commit: Commit, works: Sequence[RecordWork]) -> dict[str, Relations]:
    """Queues and parents of the executions that end."""
    return dict(
        await commit.kin.of(commit.connection, {work.step.execution_id for work in works if work.ends})
    )


async def run_records(commit: Commit, works: Sequence[RecordWork], kin: dict[str, Relations]) -> None:
    """Store every work's step whose fence still stands; the others are refused.

    What steps bring is left in ``brings``. The queues of those that end are locked already.
    """
    connection = commit.connection
    parents = {parent for _, parent in kin.values() if parent is not None}
    rows = await _locked(connection, {work.step.execution_id for work in works} | parents)
    steps = _Steps()
    for work in works:
        step = work.step
        work.answer = work.error = work.brings = None
        held = rows.get(step.execution_id)
        if held is None or not held.claimed or held.fence != step.fence:
            work.error = FenceRefused(f"execution {step.execution_id} is held by another incarnation now")
            continue
        work.answer = _NOTHING
        steps.add(step)
        if step.state is not None:
            is_killing = held.state == "KILLING" and not work.ends
            told = ExecutionState.KILLING if is_killing else step.state
            parent = kin.get(step.execution_id, _ALONE)[1] if work.ends else None
            commit.changes.append(("execution", step.execution_id, told.value, held.flow, parent))
        if work.ends:
            commit.ended.append((step.execution_id, to_micros(step.at)))
        if work.ends or step.release:
            # nothing may follow an end in the same commit either
            held.claimed = False
            commit.kin.forget(step.execution_id)
            commit.leaves_some |= step.release and not work.ends
        if step.arrivals:
            work.brings = AcceptWork(step.arrivals, step.at)
    await steps.write(connection)
    await _wake_whose_time_has_come(connection, [work.step for work in works if work.error is None])
    for work in works:
        if work.ends and work.error is None:
            await _follow_up(commit, work, kin.get(work.step.execution_id, _ALONE), rows)


_NOTHING = Recorded()
_ALONE: Relations = (None, None)


@dataclass(slots=True)
class _Row:
    """A locked execution as it stands."""

    fence: int
    claimed: bool
    state: str
    flow: str


async def _locked(connection: Any, ids: set[str]) -> dict[str, _Row]:
    rows = await connection.fetch(
        "SELECT id, fence, claimed, state, namespace || '/' || flow FROM executions"
        " WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE",
        list(ids),
    )
    return {row[0]: _Row(row[1], bool(row[2]), row[3], row[4]) for row in rows}


class _Steps:
    """What the steps of a batch change, brought together by table and row."""

    def __init__(self) -> None:
        self._task_runs: dict[tuple[str, str], TaskRun] = {}
        self._logs: dict[str, list[LogLine]] = {}
        # an UPDATE takes one of several values for a row, whichever it meets: each goes once in a round
        self._rounds: list[dict[str, tuple[Any, ...]]] = []

    def add(self, step: Transition) -> None:
        for run in step.task_runs:
            key = (step.execution_id, run.path)
            self._task_runs[key] = _merged(self._task_runs.get(key), run)
        if step.logs:
            self._logs.setdefault(step.execution_id, []).extend(step.logs)
        if _changes_execution(step):
            self._add_to_rounds(step)

    def _add_to_rounds(self, step: Transition) -> None:
        for changes in self._rounds:
            if step.execution_id not in changes:
                break
        else:
            changes = {}
            self._rounds.append(changes)
        changes[step.execution_id] = _change(step)

    async def write(self, connection: Any) -> None:
        runs = [(execution, run) for (execution, _), run in self._task_runs.items()]
        rounds = [arrays(list(changes.values())) for changes in self._rounds]
        if runs and rounds:
            await connection.execute(_UPSERT_AND_UPDATE, *columns_of(runs), *rounds.pop(0))
        else:
            await upsert_task_runs(connection, runs)
        if self._logs:
            chunks = [(id, len(lines), log_lines_text(lines)) for id, lines in self._logs.items()]
            await connection.execute(_INSERT_LOGS, *arrays(chunks))
        for columns in rounds:
            await connection.execute(_UPDATE_EXECUTIONS, *columns)


_INSERT_LOGS = (
    "INSERT INTO logs (execution_id, first, last, lines)"
    " SELECT v.id, coalesce(l.last, 0) + 1, coalesce(l.last, 0) + v.count, v.lines"
    " FROM unnest($1::text[], $2::integer[], $3::text[]) AS v(id, count, lines)"
    " LEFT JOIN LATERAL (SELECT last FROM logs WHERE execution_id = v.id ORDER BY first DESC LIMIT 1) l ON true"
)


async def _follow_up(commit: Commit, work: RecordWork, kin: Relations, rows: dict[str, _Row]) -> None:
    """What an end sets going: the next of its queue, and whoever waits for it."""
    queue, parent = kin
    if queue is None and parent is None:
        return
    claims = await admit_next(commit, queue, claim=True) if queue is not None else []
    woken: tuple[str, ...] = ()
    ready = 0
    if parent is not None and parent in rows:
        woken, ready = await wake_parent(commit.connection, parent, work.step.at)
        commit.leaves_some |= ready > 0
    work.answer = Recorded(tuple(claims), ready, woken)


async def _wake_whose_time_has_come(connection: Any, steps: Sequence[Transition]) -> None:
    """Let those be claimed at once that have just let go to wait for what has ended already."""
    waiting = [
        (step.execution_id, child, to_micros(step.at))
        for step in steps
        if step.release and not (step.state is not None and step.state.is_terminal)
        for child in step.waits_for
    ]
    if waiting:
        await connection.execute(
            "UPDATE executions e SET ready_at = least(e.ready_at, v.at) FROM (SELECT w.id, min(w.at) AS at"
            " FROM unnest($1::text[], $2::text[], $3::bigint[]) AS w(id, child, at)"
            " WHERE NOT EXISTS (SELECT 1 FROM executions c WHERE c.id = w.child AND c.ended_at IS NULL)"
            " GROUP BY w.id) v WHERE e.id = v.id AND e.claimed = 0 AND e.ended_at IS NULL",
            *arrays(waiting),
        )


async def wake_parent(connection: Any, parent: str, at: datetime) -> tuple[tuple[str, ...], int]:
    """Let the parent, which is locked, be claimed; answers it where a node holds it and has to be told, and how
    many became ready."""
    woken = await connection.execute(
        "UPDATE executions SET ready_at = least(coalesce(ready_at, $1), $1) WHERE id = $2 AND claimed = 0"
        " AND ended_at IS NULL AND state <> 'QUEUED'",
        to_micros(at),
        parent,
    )
    if woken != "UPDATE 0":
        return (), 1
    held = await connection.fetchval("SELECT 1 FROM executions WHERE id = $1 AND claimed = 1", parent)
    return ((parent,) if held else ()), 0


def _merged(earlier: TaskRun | None, later: TaskRun) -> TaskRun:
    """Two rows of one task run in one commit: the later one wins, keeping what it leaves open; an end is final."""
    if earlier is None:
        return later
    if earlier.ended_at is not None:
        return earlier
    return TaskRun(
        path=later.path,
        task=later.task,
        type=later.type,
        state=later.state,
        attempts=later.attempts,
        outputs=later.outputs,
        error=later.error,
        decisions=later.decisions if later.decisions is not None else earlier.decisions,
        started_at=later.started_at or earlier.started_at,
        ended_at=later.ended_at,
        wake_at=later.wake_at,
    )


_NOTHING_YET, _STARTED, _PROGRESS = range(3)
"""How far an execution has come under its claim: a suspect that has only started took the node down with it."""


def _changes_execution(step: Transition) -> bool:
    return (
        step.state is not None
        or step.release
        or step.progress
        or step.suspect_start
        or step.variables is not None
    )


def _change(step: Transition) -> tuple[Any, ...]:
    at = to_micros(step.at)
    terminal = step.state is not None and step.state.is_terminal
    released = step.release or terminal
    wake_at = None if step.wake_at is None or terminal else to_micros(step.wake_at)
    return (
        step.execution_id,
        step.fence,
        step.state.value if step.state is not None else None,
        _started(step, at),
        at if terminal else None,
        jsontext.dumps(step.outputs) if step.outputs is not None else None,
        clean(step.error),
        int(released),
        _ready_at(step, at, wake_at) if released and not terminal else None,
        wake_at,
        _PROGRESS if step.progress else _STARTED if step.suspect_start else _NOTHING_YET,
        jsontext.dumps(step.variables) if step.variables is not None else None,
    )


def _ready_at(step: Transition, at: int, wake_at: int | None) -> int | None:
    """From when it may be claimed again; not by time at all where it only waits for others."""
    return wake_at if wake_at is not None or step.waits_for else at


def _started(step: Transition, at: int) -> int | None:
    if step.started_at is not None:
        return to_micros(step.started_at)
    return at if step.state is ExecutionState.RUNNING else None


_UPDATE_EXECUTIONS = (
    "UPDATE executions e SET"
    " state = CASE WHEN e.state = 'KILLING' AND v.ended IS NULL THEN e.state ELSE coalesce(v.state, e.state) END,"
    " started_at = coalesce(e.started_at, v.started), ended_at = v.ended,"
    " outputs = coalesce(v.outputs, e.outputs), error = coalesce(v.error, e.error),"
    " claimed = CASE WHEN v.released = 1 THEN 0 ELSE e.claimed END,"
    " node = CASE WHEN v.released = 1 THEN NULL ELSE e.node END, wake_at = v.wake,"
    # asked to be killed while it was letting go: it must be claimed again at once, to be ended
    " ready_at = CASE WHEN e.state = 'KILLING' AND v.ended IS NULL AND v.released = 1 THEN 0 ELSE v.ready END,"
    " progress = greatest(e.progress, v.progress),"
    " suspect = CASE WHEN v.progress = 2 THEN 0 ELSE e.suspect END,"
    " suspect_starts = CASE WHEN v.progress = 2 THEN 0 ELSE e.suspect_starts END,"
    " variables = coalesce(v.variables, e.variables)"
    " FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],"
    " $8::smallint[], $9::bigint[], $10::bigint[], $11::smallint[], $12::text[])"
    " AS v(id, fence, state, started, ended, outputs, error, released, ready, wake, progress, variables)"
    " WHERE e.id = v.id AND e.fence = v.fence AND e.claimed = 1"
)
_UPSERT_AND_UPDATE = together(UPSERT, _UPDATE_EXECUTIONS)
