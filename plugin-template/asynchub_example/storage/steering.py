"""Kills that reach every child, and restarts, over the executions of the storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from asynchub_example.storage.executions import Executions, Kept
from hub.plugin import (
    Arrival,
    Conflict,
    Ends,
    Execution,
    ExecutionState,
    Killed,
    Restart,
)

_S = ExecutionState


def request_kill(
    executions: Executions,
    execution_id: str,
    at: datetime,
    reason: str,
    ends: Mapping[str, Ends] | None,
    accept: Callable[[Arrival], object],
) -> Killed:
    """See ``Storage.request_kill``; ``accept`` stores what an end brings."""
    asked = executions.get(execution_id)
    family = _family(executions, execution_id)
    if ends is not None and any(kept.execution.id not in ends for kept in family):
        raise Conflict(f"execution {execution_id} has started others meanwhile")
    held = [kept for kept in family if kept.claimed]
    for kept in held:
        kept.execution = replace(kept.execution, state=_S.KILLING)
        executions.tell(kept)
    ended = [kept for kept in family if not kept.claimed]
    for kept in ended:
        executions.end(kept, _S.KILLED if kept.fence else _S.CANCELLED, at, reason)
        kept.end_task_runs(at)
    # after every end: nobody of the family is let in or woken, only to be ended
    woken: list[str] = []
    for kept in ended:
        executions.admit_next(kept.queue, claim=False)
        woken += executions.wake_parent(kept, at)[0]
        following = (ends or {}).get(kept.execution.id, {}).get(kept.execution.state)
        if following is not None:
            accept(following)
    return Killed(_plain(asked), _ids(held), _ids(ended), tuple(woken))


def _family(executions: Executions, execution_id: str) -> list[Kept]:
    """A live execution with all the live ones below it."""
    if not executions.is_live(execution_id):
        return []
    children = [
        kept.execution.id
        for kept in executions.live()
        if kept.execution.parent is not None and kept.execution.parent.execution_id == execution_id
    ]
    return [executions.get(execution_id)] + [
        kept for child in children for kept in _family(executions, child)
    ]


def _ids(found: list[Kept]) -> tuple[str, ...]:
    return tuple(kept.execution.id for kept in found)


def _plain(kept: Kept) -> Execution:
    return replace(kept.execution, trigger_data=None)


def restart(executions: Executions, wanted: Restart) -> Execution:
    """See ``Storage.restart``."""
    kept = executions.get(wanted.execution_id)
    state = kept.execution.state
    if not state.is_terminal or state is _S.SUCCESS:
        raise Conflict(
            f"execution {wanted.execution_id} is {state.value}: only what ended badly can be restarted"
        )
    for path in wanted.forget:
        kept.task_runs = {
            stored: run
            for stored, run in kept.task_runs.items()
            if stored != path and not stored.startswith((f"{path}/", f"{path}["))
        }
    kept.task_runs |= {run.path: run for run in wanted.reopen if run.path in kept.task_runs}
    has_room = kept.queue is None or executions.has_room(kept.queue)
    executions.revive(kept, _S.CREATED if has_room else _S.QUEUED)
    kept.ready_at = wanted.at if has_room else None
    return _plain(kept)
