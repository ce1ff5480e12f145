"""Task runs as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from hub.plugin import TaskRun, jsontext, scope_of, to_micros
from plugins_core.sqlite.rows import write_many


def upsert_task_runs(connection: sqlite3.Connection, runs: Sequence[tuple[str, TaskRun]]) -> None:
    """Store task runs, each with its execution's id; what they leave open of stored ones stays."""
    rows = [_task_run_row(execution_id, run) for execution_id, run in runs]
    write_many(connection, _upsert_task_runs, _WIDTH, rows)


_WIDTH = 13


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
        # an end is final, whatever step comes late
        " WHERE task_runs.ended_at IS NULL"
    )


def end_task_runs(connection: sqlite3.Connection, ended: Sequence[tuple[str, int]]) -> None:
    """End what is left of executions that have ended, each given with the moment of its end."""
    write_many(connection, _end_task_runs, 2, ended)


def _end_task_runs(values: str) -> str:
    return (
        f"WITH v AS (VALUES {values}) UPDATE task_runs SET state = 'KILLED', ended_at = v.column2,"
        " wake_at = NULL FROM v WHERE task_runs.execution_id = v.column1 AND task_runs.ended_at IS NULL"
    )
