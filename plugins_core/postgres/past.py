"""The past: which rows a list or a purge is about, and taking old ones away a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hub.plugin import EventFilter, ExecutionFilter, Purged, jsontext, to_micros
from plugins_core.postgres.commits import Commit

_ROWS_AT_ONCE = 5_000


@dataclass
class Where:
    """A condition, put together part by part, and its values."""

    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def value(self, value: Any) -> str:
        """How a value is spelled in the text."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, text: str) -> None:
        self.parts.append(text)

    @property
    def text(self) -> str:
        return " AND ".join(self.parts) or "true"


def add_executions(where: Where, filter: ExecutionFilter, *, moment: str = "e.created_at") -> None:
    """The condition over ``executions e`` that a filter means; ``moment`` is what ``since`` and ``until`` are
    about."""
    same = (("e.namespace", filter.namespace), ("e.flow", filter.flow), ("e.parent_id", filter.parent))
    for column, value in same:
        if value is not None:
            where.add(f"{column} = {where.value(value)}")
    if len(filter.states) == 1:
        where.add(f"e.state = {where.value(filter.states[0].value)}")
    elif filter.states:
        where.add(f"e.state = ANY({where.value([state.value for state in filter.states])}::text[])")
    if filter.states:
        # said, so that the index of the past, or of what lives, is used
        if all(state.is_terminal for state in filter.states):
            where.add("e.ended_at IS NOT NULL")
        elif not any(state.is_terminal for state in filter.states):
            where.add("e.ended_at IS NULL")
    for name, wanted in filter.labels.items():
        where.add(
            f"EXISTS (SELECT 1 FROM execution_labels l WHERE l.name = {where.value(name)}"
            f" AND l.value = {where.value(wanted)} AND l.seq = e.seq)"
        )
    for comparison, at in ((">=", filter.since), ("<", filter.until)):
        if at is not None:
            where.add(f"{moment} {comparison} {where.value(to_micros(at))}")


def add_events(where: Where, filter: EventFilter) -> None:
    """The condition over ``events`` that a filter means."""
    for column, value in (("namespace", filter.namespace), ("flow", filter.flow)):
        if value is not None:
            where.add(f"{column} = {where.value(value)}")
    if filter.dead is not None:
        where.add("dead IS NOT NULL" if filter.dead else "dead IS NULL")


async def purge_executions(
    commit: Commit, filter: ExecutionFilter, limit: int, keep: Sequence[ExecutionFilter]
) -> Purged:
    """See ``Storage.purge_executions``."""
    connection = commit.connection
    where = Where(["e.ended_at IS NOT NULL"])
    add_executions(where, filter, moment="e.ended_at")
    for one in keep:
        spared = Where(values=where.values)
        add_executions(spared, one, moment="e.ended_at")
        # not NOT: asked for the parent of one that has none, a filter is neither true nor false
        where.add(f"({spared.text}) IS NOT TRUE")
    rows = await connection.fetch(
        f"SELECT e.id, e.seq, e.labels FROM executions e WHERE {where.text}"
        " AND NOT EXISTS (SELECT 1 FROM executions p WHERE p.id = e.parent_id AND p.ended_at IS NULL)"
        # kept from being brought back meanwhile; what another node removes already is passed over
        f" ORDER BY e.seq LIMIT {where.value(limit + 1)} FOR UPDATE OF e SKIP LOCKED",
        *where.values,
    )
    gone = rows[:limit]
    ids = [row[0] for row in gone]
    labels = [(name, value, row[1]) for row in gone for name, value in jsontext.loads(row[2]).items()]
    if labels:
        await connection.execute(
            "DELETE FROM execution_labels WHERE (name, value, seq) IN"
            " (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]))",
            *zip(*labels, strict=True),
        )
    for table, column in (("task_runs", "execution_id"), ("logs", "execution_id"), ("executions", "id")):
        await connection.execute(f"DELETE FROM {table} WHERE {column} = ANY($1::text[])", ids)
    return Purged(tuple(ids), len(rows) > limit)


async def purge_events(
    commit: Commit, filter: EventFilter, before: datetime, limit: int, keep: Sequence[EventFilter]
) -> Purged:
    """See ``Storage.purge_events``."""
    where = Where()
    where.add(f"received_at < {where.value(to_micros(before))}")
    add_events(where, filter)
    for one in keep:
        spared = Where(values=where.values)
        add_events(spared, one)
        where.add(f"({spared.text}) IS NOT TRUE")
    rows = await commit.connection.fetch(
        f"SELECT id FROM events WHERE {where.text} AND dead IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.event_id = events.id)"
        " AND NOT EXISTS (SELECT 1 FROM events r WHERE r.replay_of = events.id)"
        " AND (batch IS NULL OR batch <> '' AND NOT EXISTS (SELECT 1 FROM events b WHERE b.id = events.batch))"
        f" ORDER BY seq LIMIT {where.value(limit + 1)}",
        *where.values,
    )
    ids = [row[0] for row in rows[:limit]]
    await commit.connection.execute("DELETE FROM events WHERE id = ANY($1::text[])", ids)
    return Purged(tuple(ids), len(rows) > limit)


async def purge_rest(commit: Commit, now: datetime, changes_before: datetime) -> bool:
    """See ``Storage.purge_rest``. Space is given back by PostgreSQL itself."""
    connection = commit.connection
    keys = await connection.execute(
        "DELETE FROM delivery_keys WHERE (scope, key) IN"
        " (SELECT scope, key FROM delivery_keys WHERE expires_at <= $1 LIMIT $2)",
        to_micros(now),
        _ROWS_AT_ONCE,
    )
    changes = await connection.fetch(
        "DELETE FROM changes WHERE number IN"
        " (SELECT number FROM changes WHERE at < $1 ORDER BY number LIMIT $2) RETURNING number",
        to_micros(changes_before),
        _ROWS_AT_ONCE,
    )
    if changes:
        # a number that was given out stays given out, whatever was removed
        await connection.execute(
            "UPDATE change_numbers SET purged = greatest(purged, $1)", max(row[0] for row in changes)
        )
    await connection.execute("DELETE FROM notice_topics WHERE open_at <= $1", to_micros(now))
    await connection.execute("DELETE FROM nodes WHERE ended_at < $1", to_micros(changes_before))
    await connection.execute("DELETE FROM commits WHERE at < $1", to_micros(changes_before))
    return f"DELETE {_ROWS_AT_ONCE}" == keys or len(changes) == _ROWS_AT_ONCE
