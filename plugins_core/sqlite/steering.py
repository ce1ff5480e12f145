"""Steer: kills that reach every child, and restarts, inside the writer's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hub.plugin import (
    Conflict,
    Ends,
    Execution,
    ExecutionState,
    Killed,
    NotFound,
    Restart,
    TaskRun,
    jsontext,
    scope_of,
    to_micros,
)
from hub.plugin.rows import EXECUTION_COLUMNS, execution_of
from plugins_core.sqlite.accepting import accept_all, queue_counts
from plugins_core.sqlite.recording import admit_next, wake_parent
from plugins_core.sqlite.task_runs import end_task_runs
from plugins_core.sqlite.writer import Commit

_FAMILY = (
    "WITH RECURSIVE family(id) AS (SELECT id FROM executions WHERE id = ?1 AND ended_at IS NULL UNION"
    " SELECT e.id FROM executions e JOIN family f ON e.parent_id = f.id WHERE e.ended_at IS NULL)"
    " SELECT e.id, e.state, e.claimed, e.fence, e.queue, e.parent_id, e.namespace || '/' || e.flow"
    " FROM executions e JOIN family f ON e.id = f.id"
)


def request_kill(
    commit: Commit, execution_id: str, at: datetime, reason: str, ends: Mapping[str, Ends] | None
) -> Killed:
    """See ``Storage.request_kill``."""
    find(commit.connection, execution_id)
    family = commit.connection.execute(_FAMILY, (execution_id,)).fetchall()
    if ends is not None and any(row[0] not in ends for row in family):
        raise Conflict(f"execution {execution_id} has started others meanwhile")
    held: list[str] = []
    ended: list[tuple[str, ExecutionState, str | None, str | None]] = []
    for id, _, claimed, fence, queue, parent, flow in family:
        if claimed:
            held.append(id)
            commit.connection.execute("UPDATE executions SET state = 'KILLING' WHERE id = ?", (id,))
            commit.changes.append(("execution", id, "KILLING", flow))
            continue
        state = ExecutionState.KILLED if fence > 0 else ExecutionState.CANCELLED
        _end(commit, id, state, at, reason)
        commit.changes.append(("execution", id, state.value, flow))
        ended.append((id, state, queue, parent))
    # after every end: nobody of the family is let in or woken, only to be ended
    woken: list[str] = []
    for id, state, queue, parent in ended:
        if queue is not None:
            admit_next(commit, queue, claim=False)
        if parent is not None:
            woken += wake_parent(commit.connection, parent, at)[0]
        following = (ends or {}).get(id, {}).get(state)
        if following is not None:
            accept_all(commit, [following], at)
    asked = find(commit.connection, execution_id)
    return Killed(asked, tuple(held), tuple(id for id, *_ in ended), tuple(woken))


def _end(commit: Commit, execution_id: str, state: ExecutionState, at: datetime, reason: str) -> None:
    commit.connection.execute(
        "UPDATE executions SET state = ?, ended_at = ?, error = ?, ready_at = NULL, wake_at = NULL"
        " WHERE id = ?",
        (state.value, to_micros(at), reason, execution_id),
    )
    end_task_runs(commit.connection, [(execution_id, to_micros(at))])


def restart(commit: Commit, wanted: Restart) -> Execution:
    """See ``Storage.restart``."""
    connection = commit.connection
    before = find(connection, wanted.execution_id)
    if not before.state.is_terminal or before.state is ExecutionState.SUCCESS:
        raise Conflict(
            f"execution {before.id} is {before.state.value}: only what ended badly can be restarted"
        )
    for path in wanted.forget:
        _forget(connection, before.id, path)
    connection.executemany(
        "UPDATE task_runs SET state = ?, attempts = ?, outputs = ?, error = ?, decisions = ?, started_at = ?,"
        " ended_at = ?, wake_at = ? WHERE execution_id = ? AND scope = ? AND name = ?",
        [_reopened(before.id, run) for run in wanted.reopen],
    )
    queue, limit = connection.execute(
        "SELECT queue, queue_limit FROM executions WHERE id = ?", (before.id,)
    ).fetchone()
    state = ExecutionState.CREATED
    if queue is not None:
        under_way, queued = queue_counts(connection, queue)
        if under_way >= limit or queued:
            state = ExecutionState.QUEUED
    ready_at = to_micros(wanted.at) if state is ExecutionState.CREATED else None
    connection.execute(
        "UPDATE executions SET state = ?, started_at = NULL, ended_at = NULL, outputs = NULL, error = NULL, ready_at = ?,"
        " wake_at = NULL, suspect = 0, suspect_starts = 0, restarts = restarts + 1 WHERE id = ?",
        (state.value, ready_at, before.id),
    )
    commit.changes.append(("execution", before.id, state.value, str(before.flow)))
    return find(connection, before.id)


def find(connection: sqlite3.Connection, execution_id: str) -> Execution:
    """One execution, without trigger data. Raises ``NotFound``."""
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {EXECUTION_COLUMNS} FROM executions e WHERE id = ?", (execution_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f'no execution "{execution_id}"')
    return execution_of(row)


def _reopened(execution_id: str, run: TaskRun) -> tuple[Any, ...]:
    outputs, decisions = run.outputs, run.decisions
    return (
        run.state.value,
        run.attempts,
        None if outputs is None else jsontext.dumps(outputs),
        run.error,
        None if decisions is None else jsontext.dumps(decisions),
        None if run.started_at is None else to_micros(run.started_at),
        None if run.ended_at is None else to_micros(run.ended_at),
        None if run.wake_at is None else to_micros(run.wake_at),
        execution_id,
        *_split(run.path),
    )


def _split(path: str) -> tuple[str, str]:
    scope = scope_of(path)
    return scope, path[len(scope) :]


def _forget(connection: sqlite3.Connection, execution_id: str, path: str) -> None:
    """Remove a task run and all below it: ``path``, ``path/…`` and ``path[…]/…``."""
    connection.execute(
        "DELETE FROM task_runs WHERE execution_id = ? AND scope = ? AND name = ?",
        (execution_id, *_split(path)),
    )
    for below in (f"{path}/", f"{path}["):
        connection.execute(
            "DELETE FROM task_runs WHERE execution_id = ?1 AND substr(scope || name, 1, ?2) = ?3",
            (execution_id, len(below), below),
        )
