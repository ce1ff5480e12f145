"""The past: which rows a list or a purge is about, and taking old ones away a few at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.plugin import EventFilter, ExecutionFilter, ExecutionState, Purged, jsontext, to_micros

_PAGES_AT_ONCE = 100
"""How many unused pages are given back to the file system in one go: a few milliseconds of the writer."""
_ROWS_AT_ONCE = 5_000
_MANY = 20_000
"""A label that so many have is tried on what the other conditions give."""
_HAS_LABEL = "EXISTS (SELECT 1 FROM execution_labels m WHERE m.name = ? AND m.value = ? AND m.seq = e.seq)"
_COUNT_LABEL = "SELECT count(*) FROM (SELECT 1 FROM execution_labels WHERE name = ? AND value = ? LIMIT ?)"
_DELETE_LABELS = (
    "DELETE FROM execution_labels WHERE (name, value, seq) IN (SELECT l.key, l.value, e.seq"
    " FROM executions e, json_each(e.labels) l WHERE e.id IN (SELECT value FROM json_each(?)))"
)


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


@dataclass(frozen=True)
class Source:
    """Where a list looks: tables and conditions whose index gives what fits in the order of the list."""

    tables: str
    where: str
    values: tuple[Any, ...]

    def before(self, seq: int) -> Source:
        """What comes after this place of the list."""
        return Source(self.tables, f"{self.where} AND e.seq < ?", (*self.values, seq))


Ask = Callable[[str, Sequence[Any]], Awaitable[Sequence[Any]]]
"""Runs a query of one row."""


async def execution_sources(filter: ExecutionFilter, ask: Ask) -> list[Source]:
    """Where the executions that a filter shows are: one source per state, where states are asked for.

    Together the sources hold each of them once. What two conditions have in common no index can say, so the one
    that fewer fit is looked up, the others are tried on what it gives.
    """
    base = await _within(filter, ask)
    if filter.parent is not None:
        base.append(("e.parent_id = ?", (filter.parent,)))
    where = [("e.namespace = ?", filter.namespace), ("e.flow = ?", filter.flow)]
    narrow = [(text, (value,)) for text, value in where if value is not None]
    labels = list(filter.labels.items())
    first = await _rarest(labels, ask) if labels else None
    is_alone = not (narrow or filter.states or filter.parent)
    tables = "executions e"
    if first is not None and (is_alone or first[1] < _MANY):
        # the table of labels alone has all that a list of one label asks for
        tables = (
            "execution_labels e"
            if is_alone
            else "execution_labels l CROSS JOIN executions e ON e.seq = l.seq"
        )
        column = "e" if is_alone else "l"
        base.append((f"{column}.name = ? AND {column}.value = ?", first[0]))
        labels.remove(first[0])
    base += [(_HAS_LABEL, label) for label in labels]
    states: Sequence[ExecutionState | None] = filter.states or (None,)
    return [_source(tables, [*base, *narrow, *_in_state(state)]) for state in dict.fromkeys(states)]


def _source(tables: str, parts: Sequence[tuple[str, tuple[Any, ...]]]) -> Source:
    where = " AND ".join(text for text, _ in parts) or "1"
    return Source(tables, where, tuple(value for _, values in parts for value in values))


def _in_state(state: ExecutionState | None) -> list[tuple[str, tuple[Any, ...]]]:
    if state is None:
        return []
    # said, so that the index of the past, or of what lives, is used
    return [("e.state = ?", (state.value,)), (f"e.ended_at IS {'NOT ' if state.is_terminal else ''}NULL", ())]


async def _within(filter: ExecutionFilter, ask: Ask) -> list[tuple[str, tuple[Any, ...]]]:
    """The moments asked for; where nothing else is, also the part of the list that they lie in."""
    bounds = ((">=", filter.since), ("<", filter.until))
    given = [(f"created_at {comparison} ?", to_micros(at)) for comparison, at in bounds if at is not None]
    if not given:
        return []
    where, values = " AND ".join(text for text, _ in given), tuple(value for _, value in given)
    if filter != ExecutionFilter(since=filter.since, until=filter.until):
        return [
            (where.replace("created_at", "e.created_at"), values)
        ]  # the index of the rest has the moment too
    # nearly the same part as the moments say, unless clocks jumped; the plus signs keep it from being searched
    # for row by row
    first, last = await ask(f"SELECT min(+seq), max(+seq) FROM executions WHERE {where}", values)
    part = (0, -1) if first is None else (first, last)
    return [(f"{where} AND e.seq BETWEEN ? AND ?", (*values, *part))]


async def _rarest(labels: Sequence[tuple[str, str]], ask: Ask) -> tuple[tuple[str, str], int]:
    """The label that the fewest have, and how many: ``_MANY`` at most."""
    found = [((await ask(_COUNT_LABEL, (*label, _MANY)))[0], label) for label in labels]
    count, label = min(found)
    return label, count


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
    connection.execute(_DELETE_LABELS, wanted)
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
        " AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.event_id = events.id)"
        " AND NOT EXISTS (SELECT 1 FROM events r WHERE r.replay_of = events.id)"
        " AND (batch IS NULL OR batch <> '' AND NOT EXISTS (SELECT 1 FROM events b WHERE b.id = events.batch))"
        " ORDER BY seq LIMIT ?",
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
