"""Task runs as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.plugin import TaskRun, jsontext, scope_of, to_micros
from plugins_core.postgres.rows import arrays, clean


async def upsert_task_runs(connection: Any, runs: Sequence[tuple[str, TaskRun]]) -> None:
    """Store task runs, each with its execution's id; what they leave open of stored ones stays."""
    if runs:
        await connection.execute(UPSERT, *columns_of(runs))


def columns_of(runs: Sequence[tuple[str, TaskRun]]) -> list[tuple[Any, ...]]:
    """The values of ``UPSERT``."""
    return arrays([_row(execution_id, run) for execution_id, run in runs])


def _row(execution_id: str, run: TaskRun) -> tuple[Any, ...]:
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
        clean(run.error),
        None if run.decisions is None else jsontext.dumps(run.decisions),
        None if run.started_at is None else to_micros(run.started_at),
        None if run.ended_at is None else to_micros(run.ended_at),
        None if run.wake_at is None else to_micros(run.wake_at),
    )


UPSERT = (
    "INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs, error, decisions,"
    " started_at, ended_at, wake_at) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[],"
    " $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[],"
    " $13::bigint[]) ON CONFLICT (execution_id, scope, name) DO UPDATE SET state = excluded.state,"
    " attempts = excluded.attempts, outputs = excluded.outputs, error = excluded.error,"
    " decisions = coalesce(excluded.decisions, task_runs.decisions),"
    " started_at = coalesce(excluded.started_at, task_runs.started_at), ended_at = excluded.ended_at,"
    " wake_at = excluded.wake_at"
    # an end is final, whatever step comes late
    " WHERE task_runs.ended_at IS NULL"
)


END = (
    "UPDATE task_runs t SET state = 'KILLED', ended_at = v.at, wake_at = NULL"
    " FROM unnest($1::text[], $2::bigint[]) AS v(id, at) WHERE t.execution_id = v.id AND t.ended_at IS NULL"
)
"""Ends what is left of executions that have ended, each given with the moment of its end."""
