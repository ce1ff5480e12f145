"""Accept: events, executions, delivery keys, admission and trigger states, many arrivals in few statements.

First everything that decides is asked for, and locked in the order of its keys; then each arrival is judged in
memory, in its order; then what came out is stored, table by table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hub.plugin import (
    Accepted,
    Arrival,
    Claim,
    Execution,
    ExecutionState,
    FenceRefused,
    NewExecution,
    NewNotice,
    Receipt,
    TaskRun,
    TriggerKey,
    TriggerMove,
    jsontext,
    to_micros,
)
from hub.plugin.rows import flow_name, verdicts_text
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.deliveries import Deliveries, repeated
from plugins_core.postgres.notices import owe
from plugins_core.postgres.queues import Queues
from plugins_core.postgres.rows import arrays, clean, together
from plugins_core.postgres.task_runs import upsert_task_runs


@dataclass(slots=True)
class AcceptWork:
    """What is accepted together, and the answer to it: a call of ``accept``, or what a step brings."""

    arrivals: Sequence[Arrival]
    at: datetime
    move: TriggerMove | None = None
    room: float = 0
    """How many executions may be born claimed."""
    answer: list[Accepted] = field(default_factory=list)
    error: Exception | None = None

    @classmethod
    def of_call(
        cls, arrivals: Sequence[Arrival], at: datetime, move: TriggerMove | None, room: int | None
    ) -> AcceptWork:
        return cls(arrivals, at, move, math.inf if room is None else room)


def queues_of(works: Iterable[AcceptWork]) -> set[str]:
    """The queues that may be asked about."""
    return {new.queue.key for arrival in _all(works) for new in arrival.executions if new.queue is not None}


def _all(works: Iterable[AcceptWork]) -> Iterator[Arrival]:
    """Every arrival, those that ends at birth may bring among them."""
    left = [arrival for work in works for arrival in work.arrivals]
    while left:
        arrival = left.pop()
        yield arrival
        left += [one for ends in arrival.ends.values() for one in ends.values()]


async def run_accepts(
    commit: Commit, works: Sequence[AcceptWork], queues: Queues, *, is_last: bool = False
) -> None:
    """Store every work's arrivals; one whose trigger state was moved by another is refused whole.

    The queues are locked already. Where it is the last that a transaction does, what it stores may go along with the
    commit's own row.
    """
    for work in works:
        work.answer, work.error = [], None
    works = await _that_may_take(commit, works)
    works = await _that_may_move(commit, works)
    arrivals = [arrival for work in works for arrival in work.arrivals]
    batch = _Batch(commit, queues)
    await batch.prepare(works)
    await batch.deliveries.add([(one, work.at) for work in works for one in work.arrivals])
    for work in works:
        batch.room = work.room
        work.answer = [batch.accept(arrival, work) for arrival in work.arrivals]
    await batch.flush(is_last=is_last)
    if batch.deliveries.known:
        answers = await repeated(commit, batch.deliveries, arrivals)
        for work in works:
            work.answer = [
                answers.get(id(arrival), accepted)
                for arrival, accepted in zip(work.arrivals, work.answer, strict=True)
            ]


# what refuses a whole work


async def _that_may_take(commit: Commit, works: Sequence[AcceptWork]) -> list[AcceptWork]:
    """Those whose arrivals take up only events that wait; the others are refused."""
    wanted = sorted({id for work in works for arrival in work.arrivals for id in arrival.takes})
    if not wanted:
        return list(works)
    rows = await commit.connection.fetch(
        "SELECT id FROM events WHERE batch = '' AND id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE",
        wanted,
    )
    waiting = {row[0] for row in rows}
    left: list[AcceptWork] = []
    for work in works:
        takes = [id for arrival in work.arrivals for id in arrival.takes]
        if waiting.issuperset(takes) and len(set(takes)) == len(takes):
            waiting.difference_update(takes)
            left.append(work)
        else:
            work.error = FenceRefused("an event does not wait for a batch any more: another has taken it up")
    return left


async def _that_may_move(commit: Commit, works: Sequence[AcceptWork]) -> list[AcceptWork]:
    """Those whose trigger still stands where they think; it is moved. The others are refused."""
    moves = [work.move for work in works if work.move is not None]
    if not moves:
        return list(works)
    versions = await _locked_versions(commit, {move.key for move in moves})
    states: dict[TriggerKey, str] = {}
    left: list[AcceptWork] = []
    for work in works:
        move = work.move
        if move is not None:
            if versions[move.key] != move.expected:
                work.error = FenceRefused(f"trigger {move.key} was moved on by another")
                continue
            versions[move.key] += 1
            states[move.key] = jsontext.dumps(move.state)
        left.append(work)
    if states:
        await commit.connection.execute(
            "UPDATE trigger_states t SET version = v.version, state = v.state"
            " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"
            " AS v(namespace, flow, trigger, version, state)"
            " WHERE t.namespace = v.namespace AND t.flow = v.flow AND t.trigger = v.trigger",
            *arrays([(*key, versions[key], state) for key, state in states.items()]),
        )
    return left


async def _locked_versions(commit: Commit, keys: Iterable[TriggerKey]) -> dict[TriggerKey, int]:
    """Where triggers stand, each locked; one that has no row yet gets an empty one."""
    columns = arrays(sorted(keys))
    await commit.connection.execute(
        "INSERT INTO trigger_states (namespace, flow, trigger, version, state)"
        " SELECT namespace, flow, trigger, 0, '{}' FROM unnest($1::text[], $2::text[], $3::text[])"
        " AS v(namespace, flow, trigger) WHERE NOT EXISTS (SELECT 1 FROM trigger_states t"
        " WHERE t.namespace = v.namespace AND t.flow = v.flow AND t.trigger = v.trigger)"
        " ON CONFLICT DO NOTHING",
        *columns,
    )
    rows = await commit.connection.fetch(
        "SELECT namespace, flow, trigger, version FROM trigger_states"
        " WHERE (namespace, flow, trigger) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))"
        " ORDER BY namespace, flow, trigger FOR NO KEY UPDATE",
        *columns,
    )
    return {TriggerKey(row[0], row[1], row[2]): row[3] for row in rows}


# what is stored


class _Batch:
    """What many arrivals are going to store."""

    def __init__(self, commit: Commit, queues: Queues) -> None:
        self._commit = commit
        self._queues = queues
        self.deliveries = Deliveries(commit)
        self.room: float = 0
        self._there: set[str] = set()
        self._going_on: set[str] = set()
        self._events: list[tuple[Any, ...]] = []
        self._executions: list[tuple[Any, ...]] = []
        # id, name, value
        self._labels: list[tuple[str, str, str]] = []
        self._task_runs: list[tuple[str, TaskRun]] = []
        self._notices: list[tuple[NewNotice, datetime]] = []
        self._taken: list[tuple[str, str]] = []

    async def prepare(self, works: Sequence[AcceptWork]) -> None:
        """Ask for what decides: which derived ids are known, and which parents go on, kept from being killed."""
        connection = self._commit.connection
        new = [one for arrival in _all(works) for one in arrival.executions]
        derived = [one.id for one in new if one.is_derived]
        if derived:
            rows = await connection.fetch("SELECT id FROM executions WHERE id = ANY($1::text[])", derived)
            self._there = {row[0] for row in rows}
        parents = sorted({one.parent.execution_id for one in new if one.parent is not None})
        if parents:
            rows = await connection.fetch(
                "SELECT id FROM executions WHERE id = ANY($1::text[]) AND ended_at IS NULL"
                " AND state <> 'KILLING' ORDER BY id FOR SHARE",
                parents,
            )
            self._going_on = {row[0] for row in rows}

    def accept(self, arrival: Arrival, work: AcceptWork) -> Accepted:
        """Judge one arrival."""
        event = arrival.event
        if event is not None:
            if self.deliveries.is_known(arrival):
                return _TO_COME
            self._store_event(arrival, work.at)
        self._notices += [(notice, work.at) for notice in arrival.notices]
        claims: list[Claim] = []
        waiting = 0
        born: dict[str, ExecutionState] = {}
        for new in arrival.executions:
            if new.is_derived and new.id in self._there:
                continue
            state, error = self._admit(new)
            born[new.id] = state
            ready = state is ExecutionState.CREATED
            claimed = ready and self.room > 0
            self.room -= claimed
            self._store_execution(arrival, new, work.at, state, error, claimed)
            if ready and not claimed:
                waiting += 1
                self._commit.leaves_some = True
            if claimed:
                claim = _born_claimed(arrival, new)
                self._commit.kin.note_claim(claim, new.queue.key if new.queue else None)
                claims.append(claim)
            following = arrival.ends.get(new.id, {}).get(state)
            if following is not None:
                accepted = self.accept(following, work)
                claims += accepted.claims
                waiting += accepted.waiting
                born |= accepted.born
        receipt = Receipt(
            event_id=event.id if event is not None else "",
            execution_ids=tuple(new.id for new in arrival.executions),
            verdicts=arrival.verdicts,
        )
        return Accepted(receipt, tuple(claims), waiting, born)

    def _admit(self, new: NewExecution) -> tuple[ExecutionState, str | None]:
        """The state an execution is born in: derived from what it belongs to and what its queue holds now."""
        if new.parent is not None and new.parent.execution_id not in self._going_on:
            return ExecutionState.CANCELLED, new.parent.is_over
        queue = new.queue
        if queue is None or self._queues.admits(queue.key, queue.limit):
            return ExecutionState.CREATED, None
        end = queue.behavior.end
        if end is not None:
            return end, queue.over_limit
        self._queues.line_up(queue.key)
        return ExecutionState.QUEUED, None

    def _store_event(self, arrival: Arrival, at: datetime) -> None:
        event = arrival.event
        assert event is not None
        self._events.append(
            (
                event.id,
                clean(event.source),
                event.type,
                to_micros(event.time),
                clean(event.subject),
                event.namespace or "",
                event.flow or "",
                event.trigger or "",
                event.depth or None,
                to_micros(at),
                jsontext.dumps(event.data),
                verdicts_text(arrival.verdicts) if arrival.verdicts else None,
                event.replay_of,
                clean(arrival.dead),
                "" if arrival.waits else None,
            )
        )
        self._taken += [(id, event.id) for id in arrival.takes]
        self._commit.changes.append(("event", event.id, None, flow_name(event.namespace, event.flow)))

    def _store_execution(
        self,
        arrival: Arrival,
        new: NewExecution,
        at: datetime,
        state: ExecutionState,
        error: str | None,
        claimed: bool,
    ) -> None:
        created = to_micros(new.created_at)
        self._there.add(new.id)
        self._labels += [(new.id, str(clean(name)), str(clean(value))) for name, value in new.labels.items()]
        self._task_runs += [(new.id, run) for run in new.task_runs]
        self._commit.changes.append(("execution", new.id, state.value, str(new.flow)))
        self._executions.append(
            (
                new.id,
                new.flow.namespace,
                new.flow.id,
                new.revision,
                None if state is ExecutionState.CREATED else state.value,
                new.trigger,
                arrival.event.id if arrival.event is not None else None,
                jsontext.dumps(new.inputs) if new.inputs else None,
                jsontext.dumps(new.labels) if new.labels else None,
                clean(error),
                created,
                to_micros(at) if state.is_terminal else None,
                int(claimed),
                self._commit.node if claimed else None,
                created if state is ExecutionState.CREATED and not claimed else None,
                clean(new.queue.key) if new.queue else None,
                new.queue.limit if new.queue else None,
                new.depth or None,
                new.parent.execution_id if new.parent else None,
                new.parent.path if new.parent else None,
                new.replay_of,
            )
        )

    async def flush(self, *, is_last: bool) -> None:
        """Store it all."""
        connection = self._commit.connection
        others = self._labels or self._task_runs or self._notices or self._taken or self.deliveries.known
        statements, values = self._births()
        if is_last and not others:
            self._commit.last = statements, values
        elif statements:
            await connection.execute(together(*statements, "SELECT 1"), *values)
        if self._labels:
            await connection.execute(_INSERT_LABELS, *arrays(self._labels))
        if self._task_runs:
            await upsert_task_runs(connection, self._task_runs)
        if self._notices:
            await owe(self._commit, self._notices)
        if self._taken:
            await connection.execute(
                "UPDATE events e SET batch = v.batch FROM unnest($1::text[], $2::text[]) AS v(id, batch)"
                " WHERE e.id = v.id",
                *arrays(self._taken),
            )

    def _births(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The statements that store events and executions, and their values."""
        given = ((_INSERT_EVENTS, self._events), (_INSERT_EXECUTIONS, self._executions))
        statements = [statement for statement, rows in given if rows]
        return statements, [column for _, rows in given for column in arrays(rows)]


_TO_COME = Accepted(Receipt(event_id=""))
"""Stands for the answer to a repeat, which is made once everything of the batch is stored."""


def _insert(
    table: str,
    columns: Mapping[str, str],
    absent: Mapping[str, str],
    derived: Mapping[str, str] | None = None,
) -> str:
    """An ``INSERT`` of many rows: ``columns`` with their types, what stands for one that is absent, as nearly all of
    them are, and columns that are made of others."""
    given = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), 1))
    made = derived or {}
    values = [f"coalesce({name}, {absent[name]})" if name in absent else name for name in columns]
    # in the order they came: their places in lists follow it
    return (
        f"INSERT INTO {table} ({', '.join([*columns, *made])}) SELECT {', '.join([*values, *made.values()])}"
        f" FROM unnest({given}) AS v({', '.join(columns)})"
    )


_INSERT_EVENTS = _insert(
    "events",
    {
        "id": "text",
        "source": "text",
        "type": "text",
        "time": "bigint",
        "subject": "text",
        "namespace": "text",
        "flow": "text",
        "trigger": "text",
        "depth": "integer",
        "received_at": "bigint",
        "data": "text",
        "verdicts": "text",
        "replay_of": "text",
        "dead": "text",
        "batch": "text",
    },
    {"depth": "0", "verdicts": "'[]'"},
)
_INSERT_EXECUTIONS = _insert(
    "executions",
    {
        "id": "text",
        "namespace": "text",
        "flow": "text",
        "revision": "integer",
        "state": "text",
        "trigger": "text",
        "event_id": "text",
        "inputs": "text",
        "labels": "text",
        "error": "text",
        "created_at": "bigint",
        "ended_at": "bigint",
        "claimed": "smallint",
        "node": "bigint",
        "ready_at": "bigint",
        "queue": "text",
        "queue_limit": "integer",
        "depth": "integer",
        "parent_id": "text",
        "parent_path": "text",
        "replay_of": "text",
    },
    {"state": "'CREATED'", "inputs": "'{}'", "labels": "'{}'", "depth": "0"},
    # who is born claimed has been claimed once
    {"fence": "claimed"},
)
_INSERT_LABELS = (
    "INSERT INTO execution_labels (name, value, seq, created_at) SELECT v.name, v.value, e.seq, e.created_at"
    " FROM unnest($1::text[], $2::text[], $3::text[]) AS v(id, name, value) JOIN executions e ON e.id = v.id"
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
