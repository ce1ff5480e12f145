"""Steer: kills that reach every child, wherever it runs, and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from plugins_core.postgres.accepting import AcceptWork, queues_of, run_accepts
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.queues import Queues, admit_next
from plugins_core.postgres.recording import wake_parent
from plugins_core.postgres.rows import clean

_FAMILY = (
    "WITH RECURSIVE family(id) AS (SELECT id FROM executions WHERE id = $1 AND ended_at IS NULL UNION"
    " SELECT e.id FROM executions e JOIN family f ON e.parent_id = f.id WHERE e.ended_at IS NULL)"
    " SELECT e.id, e.claimed, e.fence, e.queue, e.parent_id, e.namespace || '/' || e.flow, e.node"
    " FROM executions e JOIN family f ON e.id = f.id ORDER BY e.seq"
)


@dataclass(frozen=True, slots=True)
class _Member:
    """One of those that share a kill."""

    id: str
    claimed: int
    fence: int
    queue: str | None
    parent: str | None
    flow: str
    node: int | None


async def request_kill(
    commit: Commit, execution_id: str, at: datetime, reason: str, ends: Mapping[str, Ends] | None
) -> Killed:
    """See ``Storage.request_kill``."""
    await find(commit.connection, execution_id)
    brought = {
        (id, state): AcceptWork([arrival], at)
        for id, by_state in (ends or {}).items()
        for state, arrival in by_state.items()
    }
    queues, family = await _locked_family(commit, execution_id, queues_of(brought.values()))
    if ends is not None and any(one.id not in ends for one in family):
        raise Conflict(f"execution {execution_id} has started others meanwhile")
    held = [one for one in family if one.claimed]
    ended = [(one, _end_of(one)) for one in family if not one.claimed]
    await commit.connection.execute(
        # the reason is read by the node that holds it
        "UPDATE executions SET state = 'KILLING', error = $2 WHERE id = ANY($1::text[])",
        [one.id for one in held],
        clean(reason),
    )
    commit.changes += [("execution", one.id, "KILLING", one.flow) for one in held]
    for one, state in ended:
        await _end(commit, one.id, state, at, reason)
        commit.changes.append(("execution", one.id, state.value, one.flow, one.parent))
    # after every end: nobody of the family is let in or woken, only to be ended
    woken: list[str] = []
    for one, state in ended:
        if one.queue is not None:
            await admit_next(commit, one.queue, claim=False)
        if one.parent is not None:
            woken += (await wake_parent(commit.connection, one.parent, at))[0]
        following = brought.get((one.id, state))
        if following is not None:
            await queues.count(queues_of([following]))
            await run_accepts(commit, [following], queues)
    commit.leaves_some = True
    asked = await find(commit.connection, execution_id)
    return Killed(
        asked,
        tuple(one.id for one in held),
        tuple(one.id for one, _ in ended),
        tuple(woken),
        tuple(one.id for one in held if one.node != commit.node),
    )


def _end_of(one: _Member) -> ExecutionState:
    return ExecutionState.KILLED if one.fence > 0 else ExecutionState.CANCELLED


async def _locked_family(commit: Commit, execution_id: str, others: set[str]) -> tuple[Queues, list[_Member]]:
    """An execution with all that it waits for, locked: none of them changes or starts another from then on."""
    connection = commit.connection
    family = await _family(connection, execution_id)
    queues = await Queues.locked(connection, {one.queue for one in family if one.queue is not None} | others)
    locked: set[str] = set()
    while True:
        wanted = {one.id for one in family} | {one.parent for one in family if one.parent is not None}
        if wanted <= locked:
            return queues, family
        await connection.fetch(
            "SELECT 1 FROM executions WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE", list(wanted)
        )
        locked |= wanted
        # read anew: it may have started another, or ended, before it was locked
        family = await _family(connection, execution_id)


async def _family(connection: Any, execution_id: str) -> list[_Member]:
    return [_Member(*row) for row in await connection.fetch(_FAMILY, execution_id)]


async def _end(commit: Commit, execution_id: str, state: ExecutionState, at: datetime, reason: str) -> None:
    await commit.connection.execute(
        "UPDATE executions SET state = $1, ended_at = $2, error = $3, ready_at = NULL, wake_at = NULL WHERE id = $4",
        state.value,
        to_micros(at),
        clean(reason),
        execution_id,
    )
    commit.ended.append((execution_id, to_micros(at)))


async def restart(commit: Commit, wanted: Restart) -> Execution:
    """See ``Storage.restart``."""
    connection = commit.connection
    found = await connection.fetchrow(
        "SELECT queue, queue_limit FROM executions WHERE id = $1", wanted.execution_id
    )
    queue, limit = (found[0], found[1]) if found is not None else (None, 0)
    queues = await Queues.locked(connection, [queue] if queue is not None else [])
    await connection.execute("SELECT 1 FROM executions WHERE id = $1 FOR NO KEY UPDATE", wanted.execution_id)
    before = await find(connection, wanted.execution_id)
    if not before.state.is_terminal or before.state is ExecutionState.SUCCESS:
        raise Conflict(
            f"execution {before.id} is {before.state.value}: only what ended badly can be restarted"
        )
    for path in wanted.forget:
        await _forget(connection, before.id, path)
    await connection.executemany(
        "UPDATE task_runs SET state = $1, attempts = $2, outputs = $3, error = $4, decisions = $5,"
        " started_at = $6, ended_at = $7, wake_at = $8 WHERE execution_id = $9 AND scope = $10 AND name = $11",
        [_reopened(before.id, run) for run in wanted.reopen],
    )
    state = ExecutionState.CREATED
    if queue is not None:
        await queues.count([queue])
        if not queues.admits(queue, limit):
            state = ExecutionState.QUEUED
    await connection.execute(
        "UPDATE executions SET state = $1, started_at = NULL, ended_at = NULL, outputs = NULL, error = NULL,"
        " ready_at = $2, wake_at = NULL, suspect = 0, suspect_starts = 0, restarts = restarts + 1 WHERE id = $3",
        state.value,
        to_micros(wanted.at) if state is ExecutionState.CREATED else None,
        before.id,
    )
    commit.changes.append(("execution", before.id, state.value, str(before.flow)))
    commit.leaves_some = True
    return await find(connection, before.id)


async def find(connection: Any, execution_id: str) -> Execution:
    """One execution, without trigger data. Raises ``NotFound``."""
    row = await connection.fetchrow(
        f"SELECT {EXECUTION_COLUMNS} FROM executions e WHERE id = $1", execution_id
    )
    if row is None:
        raise NotFound(f'no execution "{execution_id}"')
    return execution_of(row)


def _reopened(execution_id: str, run: TaskRun) -> tuple[Any, ...]:
    outputs, decisions = run.outputs, run.decisions
    return (
        run.state.value,
        run.attempts,
        None if outputs is None else jsontext.dumps(outputs),
        clean(run.error),
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


async def _forget(connection: Any, execution_id: str, path: str) -> None:
    """Remove a task run and all below it: ``path``, ``path/…`` and ``path[…]/…``."""
    await connection.execute(
        "DELETE FROM task_runs WHERE execution_id = $1 AND (scope || name = $2"
        " OR starts_with(scope || name, $3) OR starts_with(scope || name, $4))",
        execution_id,
        path,
        f"{path}/",
        f"{path}[",
    )
