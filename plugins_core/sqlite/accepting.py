"""Accept: events, executions, delivery keys, admission and trigger states, inside the writer's transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.plugin import (
    Accepted,
    Arrival,
    Claim,
    DeliveryKey,
    Event,
    Execution,
    ExecutionState,
    FenceRefused,
    NewExecution,
    Receipt,
    TriggerMove,
    jsontext,
    to_micros,
)
from hub.plugin.rows import flow_name, verdicts_of, verdicts_text
from plugins_core.sqlite.notices import owe
from plugins_core.sqlite.rows import write_many
from plugins_core.sqlite.task_runs import upsert_task_runs
from plugins_core.sqlite.writer import Commit, Job


@dataclass(frozen=True, slots=True)
class AcceptWork:
    """One call of ``accept``; JSON texts are made before it reaches the writer."""

    arrivals: Sequence[Arrival]
    at: datetime
    move: TriggerMove | None
    room: int | None


class _Rows:
    """What a batch is going to insert, and how many of a job's executions may still be born claimed."""

    def __init__(self) -> None:
        self.room: float = 0
        self.events: list[tuple[Any, ...]] = []
        self.executions: list[tuple[Any, ...]] = []
        # id, name, value
        self.labels: list[tuple[str, str, str]] = []


def run_accepts(commit: Commit, jobs: Sequence[Job[list[Accepted]]]) -> None:
    """Store every job's arrivals; a job whose trigger state was moved by another is refused whole."""
    rows = _Rows()
    for job in jobs:
        work: AcceptWork = job.work
        if any(one.takes and not _all_wait(commit.connection, one.takes) for one in work.arrivals):
            job.error = FenceRefused("an event does not wait for a batch any more: another has taken it up")
            continue
        if work.move is not None and not _move_trigger(commit.connection, work.move):
            job.error = FenceRefused(f"trigger {work.move.key} was moved on by another")
            continue
        rows.room = math.inf if work.room is None else work.room
        job.answer = [_accept_one(commit, arrival, work, rows) for arrival in work.arrivals]
    _flush(commit.connection, rows)


def accept_all(
    commit: Commit, arrivals: Sequence[Arrival], at: datetime
) -> tuple[int, dict[str, ExecutionState]]:
    """Store what a step brings, unclaimed; answers how many executions may run now and how each was born."""
    rows = _Rows()
    work = AcceptWork(arrivals, at, None, 0)
    accepted = [_accept_one(commit, arrival, work, rows) for arrival in arrivals]
    _flush(commit.connection, rows)
    born = {id: state for one in accepted for id, state in one.born.items()}
    return sum(one.waiting for one in accepted), born


def _flush(connection: sqlite3.Connection, rows: _Rows) -> None:
    write_many(connection, _insert_events, 15, rows.events)
    write_many(connection, _insert_executions, 21, rows.executions)
    if rows.labels:
        connection.execute(_INSERT_LABELS, (jsontext.dumps(rows.labels),))
    rows.events.clear()
    rows.executions.clear()
    rows.labels.clear()


_INSERT_LABELS = (
    "INSERT INTO execution_labels (name, value, seq, created_at)"
    " SELECT value ->> 1, value ->> 2, e.seq, e.created_at FROM json_each(?) JOIN executions e ON e.id = value ->> 0"
)


def _insert_events(values: str) -> str:
    return (
        "INSERT INTO events (id, source, type, time, subject, namespace, flow, trigger, depth, received_at,"
        f" data, verdicts, replay_of, dead, batch) VALUES {values}"
    )


def _insert_executions(values: str) -> str:
    return (
        "INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs, labels,"
        " error, created_at, ended_at, claimed, fence, ready_at, queue, queue_limit, depth, parent_id,"
        " parent_path, replay_of)"
        f" VALUES {values}"
    )


def _all_wait(connection: sqlite3.Connection, event_ids: Sequence[str]) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM events WHERE batch = '' AND id IN (SELECT value FROM json_each(?))",
        (jsontext.dumps(list(event_ids)),),
    ).fetchone()
    return bool(row[0] == len(event_ids))


def _take_up(connection: sqlite3.Connection, event_ids: Sequence[str], batch: str) -> None:
    connection.execute(
        "UPDATE events SET batch = ? WHERE id IN (SELECT value FROM json_each(?))",
        (batch, jsontext.dumps(list(event_ids))),
    )


def _move_trigger(connection: sqlite3.Connection, move: TriggerMove) -> bool:
    key, state = move.key, jsontext.dumps(move.state)
    if move.expected == 0:
        changed = connection.execute(
            "INSERT INTO trigger_states (namespace, flow, trigger, version, state) VALUES (?, ?, ?, 1, ?)"
            " ON CONFLICT DO NOTHING",
            (*key, state),
        )
    else:
        changed = connection.execute(
            "UPDATE trigger_states SET version = version + 1, state = ?"
            " WHERE namespace = ? AND flow = ? AND trigger = ? AND version = ?",
            (state, *key, move.expected),
        )
    return changed.rowcount == 1


def _accept_one(commit: Commit, arrival: Arrival, work: AcceptWork, rows: _Rows) -> Accepted:
    event, connection = arrival.event, commit.connection
    delivery = arrival.delivery
    # the unique key decides: whoever it names was first
    if event is not None and delivery and not _add_delivery_key(connection, delivery, event.id, work.at):
        first_id, first_hash = _delivery(connection, delivery)
        if first_id != event.id:
            _flush(connection, rows)  # the first may be of this very batch
            return _known(commit, delivery, event, first_id, first_hash)
    if event is not None:
        rows.events.append(
            (
                event.id,
                event.source,
                event.type,
                to_micros(event.time),
                event.subject,
                event.namespace or "",
                event.flow or "",
                event.trigger or "",
                event.depth,
                to_micros(work.at),
                jsontext.dumps(event.data),
                verdicts_text(arrival.verdicts) if arrival.verdicts else "[]",
                event.replay_of,
                arrival.dead,
                "" if arrival.waits else None,
            )
        )
        if arrival.takes:
            _take_up(connection, arrival.takes, event.id)
        commit.changes.append(("event", event.id, None, flow_name(event.namespace, event.flow)))
    if arrival.notices:
        owe(commit, arrival.notices, work.at)
    claims: list[Claim] = []
    waiting = 0
    born: dict[str, ExecutionState] = {}
    for new in arrival.executions:
        if new.is_derived and _is_there(connection, new.id, rows):
            continue
        state, error = _admit_new(connection, new, rows)
        born[new.id] = state
        ready = state is ExecutionState.CREATED
        claimed = ready and rows.room > 0
        rows.room -= claimed
        _insert_execution(arrival, new, work, rows, state, error, claimed)
        if new.task_runs:
            upsert_task_runs(connection, [(new.id, run) for run in new.task_runs])
        commit.changes.append(("execution", new.id, state.value, str(new.flow)))
        waiting += ready and not claimed
        if claimed:
            claims.append(_born_claimed(arrival, new))
        following = arrival.ends.get(new.id, {}).get(state)
        if following is not None:
            accepted = _accept_one(commit, following, work, rows)
            claims += accepted.claims
            waiting += accepted.waiting
            born |= accepted.born
    receipt = Receipt(
        event_id=event.id if event is not None else "",
        execution_ids=tuple(new.id for new in arrival.executions),
        verdicts=arrival.verdicts,
    )
    return Accepted(receipt, tuple(claims), waiting, born)


def _is_there(connection: sqlite3.Connection, execution_id: str, rows: _Rows) -> bool:
    _flush(connection, rows)  # it may be of this very batch
    row = connection.execute("SELECT 1 FROM executions WHERE id = ?", (execution_id,)).fetchone()
    return row is not None


def _add_delivery_key(
    connection: sqlite3.Connection, delivery: DeliveryKey, event_id: str, at: datetime
) -> bool:
    """Whether it was not known, or is no more."""
    added = connection.execute(
        "INSERT INTO delivery_keys (scope, key, body_hash, event_id, expires_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET body_hash = excluded.body_hash, event_id = excluded.event_id,"
        " expires_at = excluded.expires_at WHERE delivery_keys.expires_at <= ?",
        (
            delivery.scope,
            delivery.key,
            delivery.body_hash,
            event_id,
            to_micros(delivery.expires_at),
            to_micros(at),
        ),
    )
    return added.rowcount == 1


def _delivery(connection: sqlite3.Connection, delivery: DeliveryKey) -> tuple[str, str]:
    # rowid-less table: without its unique key the newest row would answer, so each repeat would look new
    row = connection.execute(
        "SELECT event_id, body_hash FROM delivery_keys WHERE scope = ? AND key = ? ORDER BY event_id DESC LIMIT 1",
        (delivery.scope, delivery.key),
    ).fetchone()
    return row[0], row[1]


def _known(commit: Commit, delivery: DeliveryKey, again: Event, event_id: str, body_hash: str) -> Accepted:
    if delivery.body_hash and body_hash and delivery.body_hash != body_hash:
        return Accepted(Receipt(event_id=event_id, conflict=True))
    connection = commit.connection
    counted = connection.execute("UPDATE events SET repeats = repeats + 1 WHERE id = ?", (event_id,))
    if counted.rowcount:  # a key outlives its event
        commit.changes.append(("event", event_id, "repeated", flow_name(again.namespace, again.flow)))
    executions = connection.execute(
        "SELECT id FROM executions WHERE event_id IN (?1, (SELECT batch FROM events WHERE id = ?1)) ORDER BY seq",
        (event_id,),
    ).fetchall()
    verdicts = connection.execute("SELECT verdicts FROM events WHERE id = ?", (event_id,)).fetchone()
    return Accepted(
        Receipt(
            event_id=event_id,
            execution_ids=tuple(row[0] for row in executions),
            duplicate=True,
            verdicts=verdicts_of(verdicts[0]) if verdicts else (),
        )
    )


def _admit_new(
    connection: sqlite3.Connection, new: NewExecution, rows: _Rows
) -> tuple[ExecutionState, str | None]:
    """The state an execution is born in: derived from what it belongs to and what its queue holds now."""
    if new.parent is not None and not _goes_on(connection, new.parent.execution_id):
        return ExecutionState.CANCELLED, new.parent.is_over
    queue = new.queue
    if queue is None:
        return ExecutionState.CREATED, None
    _flush(connection, rows)  # those of this batch count too
    under_way, queued = queue_counts(connection, queue.key)
    if under_way < queue.limit and not queued:
        return ExecutionState.CREATED, None
    end = queue.behavior.end
    return (ExecutionState.QUEUED, None) if end is None else (end, queue.over_limit)


def _goes_on(connection: sqlite3.Connection, execution_id: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM executions WHERE id = ? AND ended_at IS NULL AND state <> 'KILLING'", (execution_id,)
    )
    return found.fetchone() is not None


def queue_counts(connection: sqlite3.Connection, key: str) -> tuple[int, bool]:
    """How many executions of a queue are under way, and whether any stand in line.

    By ranges of the index: a line may be a hundred thousand long, and those under way are few.
    """
    row = connection.execute(
        "SELECT (SELECT count(*) FROM executions WHERE queue = ?1 AND ended_at IS NULL AND state < 'QUEUED')"
        " + (SELECT count(*) FROM executions WHERE queue = ?1 AND ended_at IS NULL AND state > 'QUEUED'),"
        " EXISTS (SELECT 1 FROM executions WHERE queue = ?1 AND ended_at IS NULL AND state = 'QUEUED')",
        (key,),
    ).fetchone()
    return row[0], bool(row[1])


def _insert_execution(
    arrival: Arrival,
    new: NewExecution,
    work: AcceptWork,
    rows: _Rows,
    state: ExecutionState,
    error: str | None,
    claimed: bool,
) -> None:
    created = to_micros(new.created_at)
    rows.labels += [(new.id, name, value) for name, value in new.labels.items()]
    rows.executions.append(
        (
            new.id,
            new.flow.namespace,
            new.flow.id,
            new.revision,
            state.value,
            new.trigger,
            arrival.event.id if arrival.event is not None else None,
            jsontext.dumps(new.inputs) if new.inputs else "{}",
            jsontext.dumps(new.labels) if new.labels else "{}",
            error,
            created,
            to_micros(work.at) if state.is_terminal else None,
            1 if claimed else 0,
            1 if claimed else 0,
            created if state is ExecutionState.CREATED and not claimed else None,
            new.queue.key if new.queue else None,
            new.queue.limit if new.queue else None,
            new.depth,
            new.parent.execution_id if new.parent else None,
            new.parent.path if new.parent else None,
            new.replay_of,
        )
    )


def _born_claimed(arrival: Arrival, new: NewExecution) -> Claim:
    event = arrival.event
    return Claim(
        execution=Execution(
            id=new.id,
            flow=new.flow,
            revision=new.revision,
            state=ExecutionState.CREATED,
            created_at=new.created_at,
            trigger=new.trigger,
            event_id=event.id if event is not None else None,
            inputs=new.inputs,
            labels=new.labels,
            trigger_data=event.data if event is not None else None,
            depth=new.depth,
            parent=new.parent,
            replay_of=new.replay_of,
        ),
        fence=1,
        fresh=not new.task_runs,
    )
