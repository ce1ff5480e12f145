"""Record: steps of executions under their fences, ends that set others going, claims and take-overs, inside
the writer's transaction."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.plugin import (
    Claim,
    ExecutionState,
    FenceRefused,
    LogLine,
    Recorded,
    TaskRun,
    Transition,
    jsontext,
    to_micros,
)
from hub.plugin.rows import CLAIM_COLUMNS, claim_of, log_lines_text
from plugins_core.sqlite import notices
from plugins_core.sqlite.accepting import accept_all, queue_counts
from plugins_core.sqlite.rows import write_many
from plugins_core.sqlite.task_runs import end_task_runs, upsert_task_runs
from plugins_core.sqlite.writer import Commit, Job


def run_records(commit: Commit, jobs: Sequence[Job[Recorded]]) -> None:
    """Store every job's transition whose fence still stands; the others are refused."""
    connection = commit.connection
    held = _held(connection, {job.work.execution_id for job in jobs})
    task_runs: dict[tuple[str, str], TaskRun] = {}
    # an UPDATE takes one of several values for a row, whichever it meets: each goes once in a round
    rounds: list[dict[str, tuple[Any, ...]]] = []
    ended: list[tuple[Job[Recorded], str | None, str | None]] = []
    ends: list[tuple[str, int]] = []
    waiting: list[Transition] = []
    for job in jobs:
        step: Transition = job.work
        fence, queue, parent, flow, is_killing = held.get(step.execution_id, _NOT_HELD)
        if fence != step.fence:
            job.error = FenceRefused(f"execution {step.execution_id} is held by another incarnation now")
            continue
        job.answer = _NOTHING
        for run in step.task_runs:
            key = (step.execution_id, run.path)
            task_runs[key] = _merged(task_runs.get(key), run)
        if step.logs:
            insert_logs(connection, step.execution_id, step.logs)
        if _changes_execution(step):
            _add_to_rounds(rounds, step)
        is_end = step.state is not None and step.state.is_terminal
        if step.state is not None:
            told = ExecutionState.KILLING if is_killing and not is_end else step.state
            commit.changes.append(("execution", step.execution_id, told.value, flow))
        if is_end:
            ends.append((step.execution_id, to_micros(step.at)))
        if is_end or step.release:
            # nothing may follow an end in the same commit either
            held[step.execution_id] = _NOT_HELD
            if step.waits_for and not is_end:
                waiting.append(step)
        if (is_end and (queue is not None or parent is not None)) or step.arrivals:
            ended.append((job, queue if is_end else None, parent if is_end else None))
    upsert_task_runs(connection, [(execution, run) for (execution, _), run in task_runs.items()])
    end_task_runs(connection, ends)
    for changes in rounds:
        write_many(connection, _update_executions, 12, list(changes.values()))
    # after every end of this commit: what is waited for may be among them
    for step in waiting:
        _wake_if_over(connection, step)
    for job, queue, parent in ended:
        job.answer = _follow_up(commit, job.work, queue, parent)


_Held = tuple[int | None, str | None, str | None, str | None, bool]
_NOT_HELD: _Held = (None, None, None, None, False)
_NOTHING = Recorded()


def _held(connection: sqlite3.Connection, ids: set[str]) -> dict[str, _Held]:
    """Fence, queue, parent and flow of the claimed ones among ``ids``, and whether they are being killed; one
    row holds them all, so it is one step."""
    row = connection.execute(
        "SELECT json_group_array(json_array(e.id, e.fence, e.queue, e.parent_id, e.namespace || '/' || e.flow,"
        " e.state = 'KILLING'))"
        " FROM json_each(?) AS wanted JOIN executions e ON e.id = wanted.value WHERE e.claimed = 1",
        (jsontext.dumps(list(ids)),),
    ).fetchone()
    return {id: tuple(held) for id, *held in jsontext.loads(row[0])}


def _add_to_rounds(rounds: list[dict[str, tuple[Any, ...]]], step: Transition) -> None:
    for changes in rounds:
        if step.execution_id not in changes:
            break
    else:
        changes = {}
        rounds.append(changes)
    changes[step.execution_id] = _change(step)


def _follow_up(commit: Commit, step: Transition, queue: str | None, parent: str | None) -> Recorded:
    """What an end, or the events of a step, set going."""
    claims = admit_next(commit, queue, claim=True) if queue is not None else []
    waiting, born = accept_all(commit, step.arrivals, step.at) if step.arrivals else (0, {})
    woken, ready = wake_parent(commit.connection, parent, step.at) if parent is not None else ((), 0)
    return Recorded(tuple(claims), waiting + ready, woken, born)


def _wake_if_over(connection: sqlite3.Connection, step: Transition) -> None:
    """Let an execution be claimed at once that has just let go to wait for what has ended already."""
    row = connection.execute(
        "SELECT count(*) FROM json_each(?) AS wanted JOIN executions c ON c.id = wanted.value"
        " WHERE c.ended_at IS NULL",
        (jsontext.dumps(step.waits_for),),
    ).fetchone()
    if row[0] < len(step.waits_for):
        connection.execute(
            "UPDATE executions SET ready_at = min(coalesce(ready_at, ?1), ?1)"
            " WHERE id = ?2 AND claimed = 0 AND ended_at IS NULL",
            (to_micros(step.at), step.execution_id),
        )


def wake_parent(connection: sqlite3.Connection, parent: str, at: datetime) -> tuple[tuple[str, ...], int]:
    """Let the parent be claimed; answers it where a node holds it and has to be told, and how many became
    ready."""
    woken = connection.execute(
        "UPDATE executions SET ready_at = min(coalesce(ready_at, ?1), ?1) WHERE id = ?2 AND claimed = 0"
        " AND ended_at IS NULL AND state <> 'QUEUED'",
        (to_micros(at), parent),
    )
    if woken.rowcount:
        return (), 1
    held = connection.execute("SELECT 1 FROM executions WHERE id = ? AND claimed = 1", (parent,)).fetchone()
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
        step.error,
        1 if released else 0,
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


def _update_executions(values: str) -> str:
    # v: id, fence, state, started, ended, outputs, error, released, ready, wake, progress, variables
    return (
        f"WITH v AS (VALUES {values}) UPDATE executions SET"
        " state = CASE WHEN state = 'KILLING' AND v.column5 IS NULL THEN state ELSE coalesce(v.column3, state) END,"
        " started_at = coalesce(started_at, v.column4), ended_at = v.column5,"
        " outputs = coalesce(v.column6, outputs), error = coalesce(v.column7, error),"
        " claimed = CASE WHEN v.column8 THEN 0 ELSE claimed END, wake_at = v.column10,"
        # asked to be killed while it was letting go: it must be claimed again at once, to be ended
        " ready_at = CASE WHEN state = 'KILLING' AND v.column5 IS NULL AND v.column8 THEN 0 ELSE v.column9 END,"
        " progress = max(progress, v.column11),"
        " suspect = CASE WHEN v.column11 = 2 THEN 0 ELSE suspect END,"
        " suspect_starts = CASE WHEN v.column11 = 2 THEN 0 ELSE suspect_starts END,"
        " variables = coalesce(v.column12, variables)"
        " FROM v WHERE executions.id = v.column1 AND executions.fence = v.column2"
    )


def admit_next(commit: Commit, queue: str, *, claim: bool) -> list[Claim]:
    """Let the oldest of a queue in, as many as its limit has room for."""
    connection = commit.connection
    claims: list[Claim] = []
    while True:
        row = connection.execute(
            "SELECT seq, id, queue_limit, namespace || '/' || flow FROM executions"
            " WHERE queue = ? AND state = 'QUEUED' AND ended_at IS NULL ORDER BY seq LIMIT 1",
            (queue,),
        ).fetchone()
        if row is None or queue_counts(connection, queue)[0] >= row[2]:
            return claims
        connection.execute(
            "UPDATE executions SET state = 'CREATED', claimed = ?, fence = fence + ?,"
            " ready_at = CASE WHEN ? THEN NULL ELSE created_at END, progress = 0 WHERE seq = ?",
            (int(claim), int(claim), int(claim), row[0]),
        )
        commit.changes.append(("execution", row[1], "CREATED", row[3]))
        if claim:
            claims.append(_claimed(connection, row[1]))


def _claimed(connection: sqlite3.Connection, execution_id: str) -> Claim:
    row = connection.execute(
        f"SELECT {CLAIM_COLUMNS}, v.data FROM executions e LEFT JOIN events v ON v.id = e.event_id"
        " WHERE e.id = ?",
        (execution_id,),
    ).fetchone()
    return claim_of(row, jsontext.loads(row[-1]) if row[-1] is not None else None)


def claim_ready(
    connection: sqlite3.Connection, limit: int, at: datetime, held: Mapping[str, int]
) -> list[Claim]:
    """Claim what may run by ``at``: suspects last, each namespace its share, in it the oldest first."""
    ids: list[tuple[str]] = []
    for suspect in (0, 1):
        if len(ids) < limit:
            ids += _ready(connection, suspect, limit - len(ids), to_micros(at), held)
    connection.executemany(
        "UPDATE executions SET claimed = 1, fence = fence + 1, ready_at = NULL, progress = 0 WHERE id = ?",
        ids,
    )
    return [_claimed(connection, id) for (id,) in ids]


def _ready(
    connection: sqlite3.Connection, suspect: int, limit: int, at: int, held: Mapping[str, int]
) -> list[tuple[str]]:
    """Ready ones, taken from the namespaces in turn, so that one which floods leaves the others their share."""
    taken: dict[str, list[tuple[str, int, int]]] = {}
    for namespace in _namespaces_with_ready(connection, suspect, at):
        taken[namespace] = connection.execute(
            "SELECT id, ready_at, seq FROM executions WHERE ready_at IS NOT NULL AND suspect = ?"
            " AND namespace = ? AND ready_at <= ? ORDER BY ready_at, seq LIMIT ?",
            (suspect, namespace, at, limit),
        ).fetchall()
    # the n-th of each namespace stands before the n+1-th of any, those that are held counted in
    turns = [
        (turn, ready_at, seq, id)
        for namespace, found in taken.items()
        for turn, (id, ready_at, seq) in enumerate(found, held.get(namespace, 0))
    ]
    chosen = heapq.nsmallest(limit, turns)
    # within the chosen: as they came
    return [(id,) for _, _, _, id in sorted(chosen, key=lambda one: one[1:3])]


def _namespaces_with_ready(connection: sqlite3.Connection, suspect: int, at: int) -> list[str]:
    """Each namespace that has a ready one, found by jumping along the index, not by reading all of it."""
    rows = connection.execute(
        "WITH RECURSIVE n(name) AS ("
        " SELECT min(namespace) FROM executions WHERE ready_at IS NOT NULL AND suspect = ?1"
        " UNION ALL SELECT (SELECT min(namespace) FROM executions WHERE ready_at IS NOT NULL AND suspect = ?1"
        " AND namespace > n.name) FROM n WHERE n.name IS NOT NULL)"
        " SELECT name FROM n WHERE name IS NOT NULL AND EXISTS (SELECT 1 FROM executions"
        " WHERE ready_at IS NOT NULL AND suspect = ?1 AND namespace = n.name AND ready_at <= ?2)",
        (suspect, at),
    ).fetchall()
    return [name for (name,) in rows]


def take_over(connection: sqlite3.Connection, at: datetime) -> int:
    """Release every claim; who ended no task run under it is a suspect now."""
    connection.execute(
        "UPDATE executions SET claimed = 0, ready_at = ?, wake_at = NULL, suspect = progress <> 2,"
        " suspect_starts = suspect_starts + (progress = 1) WHERE claimed = 1",
        (to_micros(at),),
    )
    row = connection.execute("SELECT changes()").fetchone()
    notices.take_over(connection)
    return int(row[0])


def insert_logs(connection: sqlite3.Connection, execution_id: str, lines: Sequence[LogLine]) -> None:
    """Append one chunk of lines."""
    row = connection.execute(
        "SELECT last FROM logs WHERE execution_id = ? ORDER BY first DESC LIMIT 1", (execution_id,)
    ).fetchone()
    first = (row[0] if row else 0) + 1
    connection.execute(
        "INSERT INTO logs (execution_id, first, last, lines) VALUES (?, ?, ?, ?)",
        (execution_id, first, first + len(lines) - 1, log_lines_text(lines)),
    )
