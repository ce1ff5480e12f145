"""The past: which rows a list or a purge is about, and taking old ones away a few at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hub.plugin import EventFilter, ExecutionFilter, Purged, jsontext, to_micros

_PAGES_AT_ONCE = 100
"""How many unused pages are given back to the file system in one go: a few milliseconds of the writer."""
_ROWS_AT_ONCE = 5_000


def execution_where(filter: ExecutionFilter, *, moment: str = "e.created_at") -> tuple[str, list[Any]]:
    """The condition over ``executions e`` that a filter means, and its values; ``moment`` is what ``since``
    and ``until`` are about."""
    parts: list[str] = ["1"]
    values: list[Any] = []
    same = (("e.namespace", filter.namespace), ("e.flow", filter.flow), ("e.parent_id", filter.parent))
    for column, value in same:
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if filter.states:
        parts.append(f"e.state IN ({','.join('?' * len(filter.states))})")
        values += [state.value for state in filter.states]
        if all(state.is_terminal for state in filter.states):
            parts.append("e.ended_at IS NOT NULL")  # said, so that the index of the past is used
    for name, wanted in filter.labels.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(e.labels) l WHERE l.key = ? AND l.value = ?)")
        values += [name, wanted]
    for comparison, at in ((">=", filter.since), ("<", filter.until)):
        if at is not None:
            parts.append(f"{moment} {comparison} ?")
            values.append(to_micros(at))
    return " AND ".join(parts), values


def event_where(filter: EventFilter) -> tuple[str, list[Any]]:
    """The condition over ``events`` that a filter means, and its values."""
    parts: list[str] = ["1"]
    values: list[Any] = []
    for column, value in (("namespace", filter.namespace), ("flow", filter.flow)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if filter.dead is not None:
        parts.append("dead IS NOT NULL" if filter.dead else "dead IS NULL")
    return " AND ".join(parts), values


def purge_executions(
    connection: sqlite3.Connection, filter: ExecutionFilter, limit: int, keep: Sequence[ExecutionFilter]
) -> Purged:
    """See ``Storage.purge_executions``."""
    where, values = execution_where(filter, moment="e.ended_at")
    for one in keep:
        spared, more = execution_where(one, moment="e.ended_at")
        # not NOT: asked for the parent of one that has none, a filter is neither true nor false
        where, values = f"{where} AND ({spared}) IS NOT TRUE", [*values, *more]
    rows = connection.execute(
        f"SELECT e.id FROM executions e WHERE e.ended_at IS NOT NULL AND {where}"
        " AND NOT EXISTS (SELECT 1 FROM executions p WHERE p.id = e.parent_id AND p.ended_at IS NULL)"
        " ORDER BY e.seq LIMIT ?",
        [*values, limit + 1],
    ).fetchall()
    ids = tuple(row[0] for row in rows[:limit])
    wanted = (jsontext.dumps(list(ids)),)
    for table, column in (("task_runs", "execution_id"), ("logs", "execution_id"), ("executions", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", wanted)
    return Purged(ids, len(rows) > limit)


def purge_events(
    connection: sqlite3.Connection,
    filter: EventFilter,
    before: datetime,
    limit: int,
    keep: Sequence[EventFilter],
) -> Purged:
    """See ``Storage.purge_events``."""
    where, values = event_where(filter)
    for one in keep:
        spared, more = event_where(one)
        where, values = f"{where} AND ({spared}) IS NOT TRUE", [*values, *more]
    rows = connection.execute(
        f"SELECT id FROM events WHERE received_at < ? AND {where} AND dead IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.event_id = events.id) ORDER BY seq LIMIT ?",
        [to_micros(before), *values, limit + 1],
    ).fetchall()
    ids = tuple(row[0] for row in rows[:limit])
    connection.execute(
        "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))", (jsontext.dumps(list(ids)),)
    )
    return Purged(ids, len(rows) > limit)


def purge_rest(connection: sqlite3.Connection, now: datetime, changes_before: datetime) -> bool:
    """See ``Storage.purge_rest``."""
    removed = [
        connection.execute(
            "DELETE FROM delivery_keys WHERE (scope, key) IN"
            " (SELECT scope, key FROM delivery_keys WHERE expires_at <= ? LIMIT ?)",
            (to_micros(now), _ROWS_AT_ONCE),
        ).rowcount,
        connection.execute(
            "DELETE FROM changes WHERE number IN (SELECT number FROM changes WHERE at < ? ORDER BY number LIMIT ?)",
            (to_micros(changes_before), _ROWS_AT_ONCE),
        ).rowcount,
    ]
    connection.execute("DELETE FROM notice_topics WHERE open_at <= ?", (to_micros(now),))
    unused = connection.execute("PRAGMA freelist_count").fetchone()[0]
    for _ in range(min(unused, _PAGES_AT_ONCE)):
        # Python steps this statement once, which gives back one page, whatever number stands in it
        connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
    return unused > _PAGES_AT_ONCE or any(count == _ROWS_AT_ONCE for count in removed)
