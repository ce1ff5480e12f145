"""Record: steps of executions under their fences, ends that admit, claims, kills and take-overs,
inside the writer's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hub.plugin import (
    Claim,
    Execution,
    ExecutionState,
    FenceRefused,
    LogLine,
    NotFound,
    Recorded,
    TaskRun,
    Transition,
    jsontext,
    scope_of,
    to_micros,
)
from plugins_core.sqlite.accepting import queue_counts
from plugins_core.sqlite.rows import (
    CLAIM_COLUMNS,
    EXECUTION_COLUMNS,
    claim_of,
    execution_of,
    log_lines_text,
    write_many,
)
from plugins_core.sqlite.writer import Job


def run_records(connection: sqlite3.Connection, jobs: Sequence[Job[Recorded]]) -> None:
    """Store every job's transition whose fence still stands; the others are refused."""
    held = _held(connection, {job.work.execution_id for job in jobs})
    task_runs: dict[tuple[str, str], TaskRun] = {}
    changes: list[tuple[Any, ...]] = []
    ended: list[tuple[Job[Recorded], str]] = []
    for job in jobs:
        step: Transition = job.work
        fence, queue = held.get(step.execution_id, (None, None))
        if fence != step.fence:
            job.error = FenceRefused(f"execution {step.execution_id} is held by another incarnation now")
            continue
        job.answer = Recorded()
        for run in step.task_runs:
            key = (step.execution_id, run.path)
            task_runs[key] = _merged(task_runs.get(key), run)
        if step.logs:
            insert_logs(connection, step.execution_id, step.logs)
        if _changes_execution(step):
            changes.append(_change(step))
        if step.state is not None and step.state.is_terminal:
            # nothing may follow an end in the same commit either
            held[step.execution_id] = (None, None)
            if queue is not None:
                ended.append((job, queue))
        elif step.release:
            held[step.execution_id] = (None, None)
    write_many(
        connection,
        _upsert_task_runs,
        13,
        [_task_run_row(execution, run) for (execution, _), run in task_runs.items()],
    )
    write_many(connection, _update_executions, 11, changes)
    for job, queue in ended:
        job.answer = Recorded(claims=tuple(_admit_next(connection, queue, claim=True)))


def _held(connection: sqlite3.Connection, ids: set[str]) -> dict[str, tuple[Any, Any]]:
    """Fence and queue of the claimed ones among ``ids``; one row holds them all, so it is one step."""
    row = connection.execute(
        "SELECT json_group_array(json_array(e.id, e.fence, e.queue)) FROM json_each(?) AS wanted"
        " JOIN executions e ON e.id = wanted.value WHERE e.claimed = 1",
        (jsontext.dumps(list(ids)),),
    ).fetchone()
    return {id: (fence, queue) for id, fence, queue in jsontext.loads(row[0])}


def _merged(earlier: TaskRun | None, later: TaskRun) -> TaskRun:
    """Two rows of one task run in one commit: the later one wins, keeping what it leaves open."""
    if earlier is None:
        return later
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


def _task_run_row(execution_id: str, run: TaskRun) -> tuple[Any, ...]:
    scope = scope_of(run.path)
    return (
        execution_id,
        scope,
        run.path[len(scope) :],
        run.task,
        run.type,
        run.state.value,
        run.attempts,
        None if run.outputs is None else jsontext.dumps(run.outputs),
        run.error,
        None if run.decisions is None else jsontext.dumps(run.decisions),
        None if run.started_at is None else to_micros(run.started_at),
        None if run.ended_at is None else to_micros(run.ended_at),
        None if run.wake_at is None else to_micros(run.wake_at),
    )


def _upsert_task_runs(values: str) -> str:
    return (
        "INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs, error,"
        f" decisions, started_at, ended_at, wake_at) VALUES {values}"
        " ON CONFLICT (execution_id, scope, name) DO UPDATE SET state = excluded.state,"
        " attempts = excluded.attempts, outputs = excluded.outputs, error = excluded.error,"
        " decisions = coalesce(excluded.decisions, decisions),"
        " started_at = coalesce(excluded.started_at, started_at), ended_at = excluded.ended_at,"
        " wake_at = excluded.wake_at"
    )


def _changes_execution(step: Transition) -> bool:
    return step.state is not None or step.release or step.progress or step.suspect_start


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
        step.error,
        1 if released else 0,
        None if terminal else (wake_at if wake_at is not None else at) if released else None,
        wake_at,
        (1 if step.progress else 0) + (2 if step.suspect_start else 0),
    )


def _started(step: Transition, at: int) -> int | None:
    if step.started_at is not None:
        return to_micros(step.started_at)
    return at if step.state is ExecutionState.RUNNING else None


def _update_executions(values: str) -> str:
    # v: id, fence, state, started, ended, outputs, error, released, ready, wake, marks
    return (
        f"WITH v AS (VALUES {values}) UPDATE executions SET"
        " state = CASE WHEN state = 'KILLING' AND v.column5 IS NULL THEN state ELSE coalesce(v.column3, state) END,"
        " started_at = coalesce(started_at, v.column4), ended_at = v.column5,"
        " outputs = coalesce(v.column6, outputs), error = coalesce(v.column7, error),"
        " claimed = CASE WHEN v.column8 THEN 0 ELSE claimed END, wake_at = v.column10,"
        # asked to be killed while it was letting go: it must be claimed again at once, to be ended
        " ready_at = CASE WHEN state = 'KILLING' AND v.column5 IS NULL AND v.column8 THEN 0 ELSE v.column9 END,"
        " progress = CASE WHEN v.column11 & 1 THEN 1 ELSE progress END,"
        " suspect = CASE WHEN v.column11 & 1 THEN 0 ELSE suspect END,"
        " suspect_starts = CASE WHEN v.column11 & 1 THEN 0 ELSE suspect_starts + (v.column11 >> 1) END"
        " FROM v WHERE executions.id = v.column1 AND executions.fence = v.column2"
    )


def _admit_next(connection: sqlite3.Connection, queue: str, *, claim: bool) -> list[Claim]:
    """Let the oldest of a queue in, as many as its limit has room for."""
    claims: list[Claim] = []
    while True:
        row = connection.execute(
            "SELECT seq, id, queue_limit FROM executions"
            " WHERE queue = ? AND state = 'QUEUED' AND ended_at IS NULL ORDER BY seq LIMIT 1",
            (queue,),
        ).fetchone()
        if row is None or queue_counts(connection, queue)[0] >= row[2]:
            return claims
        connection.execute(
            "UPDATE executions SET state = 'CREATED', claimed = ?, fence = fence + ?,"
            " ready_at = CASE WHEN ? THEN NULL ELSE created_at END WHERE seq = ?",
            (int(claim), int(claim), int(claim), row[0]),
        )
        if claim:
            claims.append(_claimed(connection, row[1]))


def _claimed(connection: sqlite3.Connection, execution_id: str) -> Claim:
    row = connection.execute(
        f"SELECT {CLAIM_COLUMNS}, v.data FROM executions e LEFT JOIN events v ON v.id = e.event_id"
        " WHERE e.id = ?",
        (execution_id,),
    ).fetchone()
    return claim_of(row, jsontext.loads(row[-1]) if row[-1] is not None else None)


def claim_ready(connection: sqlite3.Connection, limit: int, at: datetime) -> list[Claim]:
    """Claim what may run by ``at``: suspects last, then oldest first."""
    ids = connection.execute(
        "SELECT id FROM executions WHERE ready_at IS NOT NULL AND suspect = 0 AND ready_at <= ?"
        " ORDER BY ready_at, seq LIMIT ?",
        (to_micros(at), limit),
    ).fetchall()
    if len(ids) < limit:
        ids += connection.execute(
            "SELECT id FROM executions WHERE ready_at IS NOT NULL AND suspect = 1 AND ready_at <= ?"
            " ORDER BY ready_at, seq LIMIT ?",
            (to_micros(at), limit - len(ids)),
        ).fetchall()
    connection.executemany(
        "UPDATE executions SET claimed = 1, fence = fence + 1, ready_at = NULL, progress = 0 WHERE id = ?",
        ids,
    )
    return [_claimed(connection, id) for (id,) in ids]


def take_over(connection: sqlite3.Connection, at: datetime) -> int:
    """Release every claim; who ended no task run under it is a suspect now."""
    connection.execute(
        "UPDATE executions SET claimed = 0, ready_at = ?, wake_at = NULL,"
        " suspect = CASE WHEN progress = 0 THEN 1 ELSE 0 END WHERE claimed = 1",
        (to_micros(at),),
    )
    row = connection.execute("SELECT changes()").fetchone()
    return int(row[0])


def request_kill(connection: sqlite3.Connection, execution_id: str, at: datetime, reason: str) -> Execution:
    """See ``Storage.request_kill``."""
    row = connection.execute(
        "SELECT state, claimed, fence, queue FROM executions WHERE id = ?", (execution_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f'no execution "{execution_id}"')
    state, claimed, fence, queue = ExecutionState(row[0]), row[1], row[2], row[3]
    if not state.is_terminal:
        if claimed:
            connection.execute("UPDATE executions SET state = 'KILLING' WHERE id = ?", (execution_id,))
        else:
            started = fence > 0
            connection.execute(
                "UPDATE executions SET state = ?, ended_at = ?, error = ?, ready_at = NULL, wake_at = NULL"
                " WHERE id = ?",
                ("KILLED" if started else "CANCELLED", to_micros(at), reason, execution_id),
            )
            connection.execute(
                "UPDATE task_runs SET state = 'KILLED', ended_at = ?, wake_at = NULL"
                " WHERE execution_id = ? AND ended_at IS NULL",
                (to_micros(at), execution_id),
            )
            if queue is not None:
                _admit_next(connection, queue, claim=False)
    found = connection.execute(
        f"SELECT {EXECUTION_COLUMNS} FROM executions e WHERE id = ?",
        (execution_id,),
    ).fetchone()
    return execution_of(found)


def insert_logs(connection: sqlite3.Connection, execution_id: str, lines: Sequence[LogLine]) -> None:
    """Append one chunk of lines."""
    row = connection.execute(
        "SELECT last FROM logs WHERE execution_id = ? ORDER BY first DESC LIMIT 1", (execution_id,)
    ).fetchone()
    first = (row[0] if row else 0) + 1
    connection.execute(
        "INSERT INTO logs (execution_id, first, last, lines) VALUES (?, ?, ?, ?)",
        (execution_id, first, first + len(lines) - 1, log_lines_text(lines, to_micros)),
    )
