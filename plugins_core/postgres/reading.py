"""Reading: one object by its id, and pages of lists."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hub.plugin import (
    EventFilter,
    Execution,
    ExecutionFilter,
    InvalidInput,
    LogLine,
    NotFound,
    Notice,
    NoticeFilter,
    Page,
    Slice,
    StoredEvent,
    TaskRun,
    TaskRunState,
    TriggerKey,
    TriggerState,
    jsontext,
)
from hub.plugin.rows import (
    EVENT_COLUMNS,
    EXECUTION_COLUMNS,
    NOTICE_COLUMNS,
    TASK_RUN_COLUMNS,
    execution_of,
    log_lines_of,
    notice_of,
    stored_event_of,
    task_run_of,
)
from plugins_core.postgres import notices as outbox
from plugins_core.postgres.past import Where, add_events, add_executions

T = TypeVar("T")


async def execution(connection: Any, execution_id: str) -> Execution:
    """See ``Storage.execution``."""
    row = await connection.fetchrow(
        f"SELECT {EXECUTION_COLUMNS}, v.data FROM executions e LEFT JOIN events v ON v.id = e.event_id"
        " WHERE e.id = $1",
        execution_id,
    )
    if row is None:
        raise NotFound(f'no execution "{execution_id}"')
    return execution_of(row, jsontext.loads(row[-1]) if row[-1] is not None else None)


async def executions(connection: Any, filter: ExecutionFilter, page: Page, count: bool) -> Slice[Execution]:
    """See ``Storage.executions``."""
    where = Where()
    add_executions(where, filter)
    total = None
    if count:
        total = await connection.fetchval(
            f"SELECT count(*) FROM executions e WHERE {where.text}", *where.values
        )
    if page.cursor is not None:
        where.add(f"e.seq < {where.value(_cursor_value(page.cursor))}")
    rows = await connection.fetch(
        f"SELECT {EXECUTION_COLUMNS}, e.seq FROM executions e WHERE {where.text}"
        f" ORDER BY e.seq DESC LIMIT {where.value(page.limit + 1)}",
        *where.values,
    )
    return _slice(rows, page, execution_of, total)


async def executions_of_events(
    connection: Any, event_ids: Sequence[str], with_replays: bool
) -> dict[str, list[Execution]]:
    """See ``Storage.executions_of_events``."""
    wanted = (
        "SELECT id AS asked, id AS event FROM unnest($1::text[]) AS g(id)"
        " UNION ALL SELECT id, batch FROM events WHERE id = ANY($1::text[]) AND batch > ''"
    )
    if with_replays:
        wanted += " UNION ALL SELECT replay_of, id FROM events WHERE replay_of = ANY($1::text[])"
    rows = await connection.fetch(
        f"SELECT {EXECUTION_COLUMNS}, w.asked FROM ({wanted}) w JOIN executions e"
        " ON e.event_id = w.event ORDER BY e.seq",
        list(event_ids),
    )
    found: dict[str, list[Execution]] = {}
    for row in rows:
        found.setdefault(row[-1], []).append(execution_of(row))
    return found


async def task_runs(
    connection: Any, execution_id: str, page: Page, states: Sequence[TaskRunState]
) -> Slice[TaskRun]:
    """See ``Storage.task_runs``."""
    where = Where()
    where.add(f"execution_id = {where.value(execution_id)}")
    where.add(f"seq > {where.value(_after(page))}")
    if states:
        where.add(f"state = ANY({where.value([state.value for state in states])}::text[])")
    rows = await connection.fetch(
        f"SELECT {TASK_RUN_COLUMNS}, seq FROM task_runs WHERE {where.text}"
        f" ORDER BY seq LIMIT {where.value(page.limit + 1)}",
        *where.values,
    )
    return _slice(rows, page, task_run_of)


async def scope_task_runs(connection: Any, execution_id: str, scope: str) -> dict[str, TaskRun]:
    """See ``Storage.scope_task_runs``."""
    rows = await connection.fetch(
        f"SELECT {TASK_RUN_COLUMNS} FROM task_runs WHERE execution_id = $1 AND scope = $2 ORDER BY seq",
        execution_id,
        scope,
    )
    return {run.path: run for run in map(task_run_of, rows)}


async def logs(connection: Any, execution_id: str, after: int, limit: int) -> list[LogLine]:
    """See ``Storage.logs``."""
    found: list[LogLine] = []
    while len(found) < limit:
        start = found[-1].number if found else after
        rows = await connection.fetch(
            "SELECT first, lines FROM logs WHERE execution_id = $1 AND last > $2 ORDER BY first LIMIT 50",
            execution_id,
            start,
        )
        lines = [line for first, text in rows for line in log_lines_of(first, text)]
        found += [line for line in lines if line.number > start]
        if not rows:
            break
    return found[:limit]


async def log_size(connection: Any, execution_id: str) -> tuple[int, int]:
    """See ``Storage.log_size``."""
    rows = await connection.fetch("SELECT first, lines FROM logs WHERE execution_id = $1", execution_id)
    lines = [line for first, text in rows for line in log_lines_of(first, text)]
    return len(lines), sum(len(line.message) for line in lines)


async def event(connection: Any, event_id: str) -> StoredEvent:
    """See ``Storage.event``."""
    row = await connection.fetchrow(f"SELECT {EVENT_COLUMNS} FROM events WHERE id = $1", event_id)
    if row is None:
        raise NotFound(f'no event "{event_id}"')
    return stored_event_of(row)


async def events(connection: Any, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
    """See ``Storage.events``."""
    where = Where()
    add_events(where, filter)
    if page.cursor is not None:
        where.add(f"seq < {where.value(_cursor_value(page.cursor))}")
    rows = await connection.fetch(
        f"SELECT {EVENT_COLUMNS}, seq FROM events WHERE {where.text}"
        f" ORDER BY seq DESC LIMIT {where.value(page.limit + 1)}",
        *where.values,
    )
    return _slice(rows, page, stored_event_of)


async def waiting_events(connection: Any, key: TriggerKey, page: Page) -> Slice[StoredEvent]:
    """See ``Storage.waiting_events``."""
    rows = await connection.fetch(
        f"SELECT {EVENT_COLUMNS}, seq FROM events WHERE namespace = $1 AND flow = $2 AND trigger = $3"
        " AND batch = '' AND seq > $4 ORDER BY seq LIMIT $5",
        *key,
        _after(page),
        page.limit + 1,
    )
    return _slice(rows, page, stored_event_of)


async def notices(connection: Any, filter: NoticeFilter, page: Page) -> Slice[Notice]:
    """See ``NoticeStorage.notices``."""
    text, values = outbox.where(filter)
    where = Where([text], values)
    if page.cursor is not None:
        where.add(f"seq < {where.value(_cursor_value(page.cursor))}")
    rows = await connection.fetch(
        f"SELECT {NOTICE_COLUMNS}, seq FROM notices WHERE {where.text}"
        f" ORDER BY seq DESC LIMIT {where.value(page.limit + 1)}",
        *where.values,
    )
    return _slice(rows, page, notice_of)


async def trigger_states(connection: Any) -> dict[TriggerKey, TriggerState]:
    """See ``Storage.trigger_states``; one that was only locked has none."""
    rows = await connection.fetch(
        "SELECT namespace, flow, trigger, version, state FROM trigger_states WHERE version > 0"
    )
    return {TriggerKey(row[0], row[1], row[2]): TriggerState(jsontext.loads(row[4]), row[3]) for row in rows}


def _slice(rows: list[Any], page: Page, make: Callable[[Any], T], total: int | None = None) -> Slice[T]:
    """A page out of one row more than it has; the last column is its place."""
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    return Slice(tuple(map(make, shown)), _cursor(shown[-1][-1]) if more else None, total)


def _after(page: Page) -> int:
    return _cursor_value(page.cursor) if page.cursor is not None else 0


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _cursor_value(cursor: str) -> int:
    try:
        number = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).removeprefix(b"s"))
        # spelled as it was given out, or it is none of ours
        if _cursor(number) != cursor or not 0 <= number < 2**63:
            raise ValueError(cursor)
        return number
    except ValueError:
        raise InvalidInput(f'"{cursor}" is not a cursor of this list') from None
