"""The storage contract on SQLite: WAL, ``synchronous=FULL``, one writer thread, readers beside it.

An answered write is flushed to disk. Reading happens on other connections and sees every answered write.
"""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

from hub.plugin import (
    Accepted,
    Arrival,
    Claim,
    Conflict,
    Execution,
    ExecutionFilter,
    FlowKey,
    FlowRecord,
    InvalidInput,
    LogLine,
    NotFound,
    Page,
    Recorded,
    Slice,
    Storage,
    StorageError,
    StorageSettings,
    StorageUnavailable,
    StoredEvent,
    TaskRun,
    Transition,
    TriggerKey,
    TriggerMove,
    TriggerState,
    from_micros,
    jsontext,
    to_micros,
)
from plugins_core.sqlite import accepting, recording
from plugins_core.sqlite.migrate import migrate
from plugins_core.sqlite.rows import (
    EVENT_COLUMNS,
    EXECUTION_COLUMNS,
    FLOW_COLUMNS,
    TASK_RUN_COLUMNS,
    execution_of,
    flow_of,
    log_lines_of,
    stored_event_of,
    task_run_of,
)
from plugins_core.sqlite.writer import Job, Kind, Writer

T = TypeVar("T")

_READERS = 2


class SqliteStorage(Storage):
    """State in one SQLite file."""

    type: ClassVar[str] = "sqlite"
    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)
    single_process: ClassVar[bool] = True

    def __init__(self, path: Path, writer: Writer, readers: ThreadPoolExecutor) -> None:
        self._path = path
        self._writer = writer
        self._readers = readers
        self._local = threading.local()
        self._accepts: Kind[list[Accepted]] = Kind(accepting.run_accepts)
        self._records: Kind[Recorded] = Kind(recording.run_records)
        self._calls: Kind[Any] = Kind(_run_calls)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
        path = _path_of(settings.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = Writer(lambda: _connect_for_writing(path), queue_limit=settings.queue_limit)
        await writer.start()
        readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")
        storage = cls(path, writer, readers)
        try:
            yield storage
        finally:
            await writer.stop()
            readers.shutdown()

    # events and executions

    async def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        claim: bool = True,
    ) -> list[Accepted]:
        return await self._writer.submit(self._accepts, accepting.AcceptWork(arrivals, at, move, claim))

    async def record(self, transition: Transition) -> Recorded:
        return await self._writer.submit(self._records, transition)

    def record_soon(self, transition: Transition) -> None:
        self._writer.submit_soon(self._records, transition)

    async def claim(self, *, limit: int, at: datetime) -> list[Claim]:
        return await self._write(lambda connection: recording.claim_ready(connection, limit, at))

    async def next_wake_at(self) -> datetime | None:
        row = await self._one("SELECT min(ready_at) FROM executions WHERE ready_at IS NOT NULL")
        return None if row is None or row[0] is None else from_micros(row[0])

    async def take_over(self, *, at: datetime) -> int:
        return await self._write(lambda connection: recording.take_over(connection, at))

    async def request_kill(self, execution_id: str, *, at: datetime, reason: str) -> Execution:
        return await self._write(
            lambda connection: recording.request_kill(connection, execution_id, at, reason)
        )

    async def execution(self, execution_id: str) -> Execution:
        row = await self._one(
            f"SELECT {EXECUTION_COLUMNS}, v.data FROM executions e LEFT JOIN events v ON v.id = e.event_id"
            " WHERE e.id = ?",
            (execution_id,),
        )
        if row is None:
            raise NotFound(f'no execution "{execution_id}"')
        return execution_of(row, jsontext.loads(row[-1]) if row[-1] is not None else None)

    async def executions(
        self, filter: ExecutionFilter, page: Page, *, count: bool = False
    ) -> Slice[Execution]:
        where, values = _where(filter)
        total = None
        if count:
            row = await self._one(f"SELECT count(*) FROM executions e WHERE {where}", values)
            total = row[0] if row else 0
        if page.cursor is not None:
            where, values = where + " AND e.seq < ?", [*values, _cursor_value(page.cursor)]
        rows = await self._all(
            f"SELECT {EXECUTION_COLUMNS}, e.seq FROM executions e WHERE {where} ORDER BY e.seq DESC LIMIT ?",
            [*values, page.limit + 1],
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(execution_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None, total)

    async def task_runs(self, execution_id: str, page: Page) -> Slice[TaskRun]:
        after = _cursor_value(page.cursor) if page.cursor is not None else 0
        rows = await self._all(
            f"SELECT {TASK_RUN_COLUMNS}, seq FROM task_runs WHERE execution_id = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (execution_id, after, page.limit + 1),
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(task_run_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None)

    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        rows = await self._all(
            f"SELECT {TASK_RUN_COLUMNS} FROM task_runs WHERE execution_id = ? AND scope = ?",
            (execution_id, scope),
        )
        return {run.path: run for run in map(task_run_of, rows)}

    async def append_logs(self, execution_id: str, lines: Sequence[LogLine]) -> None:
        await self._write(lambda connection: recording.insert_logs(connection, execution_id, lines))

    async def logs(self, execution_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        found: list[LogLine] = []
        while len(found) < limit:
            start = found[-1].number if found else after
            rows = await self._all(
                "SELECT first, lines FROM logs WHERE execution_id = ? AND last > ? ORDER BY first LIMIT 50",
                (execution_id, start),
            )
            lines = [line for first, text in rows for line in log_lines_of(first, text)]
            found += [line for line in lines if line.number > start]
            if not rows:
                break
        return found[:limit]

    async def event(self, event_id: str) -> StoredEvent:
        row = await self._one(f"SELECT {EVENT_COLUMNS} FROM events WHERE id = ?", (event_id,))
        if row is None:
            raise NotFound(f'no event "{event_id}"')
        return stored_event_of(row)

    async def events(
        self, page: Page, *, namespace: str | None = None, flow: str | None = None
    ) -> Slice[StoredEvent]:
        before = _cursor_value(page.cursor) if page.cursor is not None else None
        rows = await self._all(
            f"SELECT {EVENT_COLUMNS}, seq FROM events WHERE (?1 IS NULL OR namespace = ?1)"
            " AND (?2 IS NULL OR flow = ?2) AND (?3 IS NULL OR seq < ?3) ORDER BY seq DESC LIMIT ?4",
            (namespace, flow, before, page.limit + 1),
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(stored_event_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None)

    async def counts(self) -> Mapping[str, int]:
        rows = await self._all("SELECT state, count(*) FROM executions WHERE ended_at IS NULL GROUP BY state")
        return {row[0]: row[1] for row in rows}

    # triggers

    async def trigger_states(self) -> dict[TriggerKey, TriggerState]:
        rows = await self._all("SELECT namespace, flow, trigger, version, state FROM trigger_states")
        return {TriggerKey(*row[:3]): TriggerState(jsontext.loads(row[4]), row[3]) for row in rows}

    # flows

    async def put_flow(
        self,
        key: FlowKey,
        *,
        source: str,
        source_hash: str,
        summary: Mapping[str, Any],
        disabled: bool,
        origin: str | None,
        at: datetime,
    ) -> tuple[FlowRecord, bool]:
        def put(connection: sqlite3.Connection) -> tuple[FlowRecord, bool]:
            known = _flow(connection, key)
            if known is not None and known.retired_at is None and known.origin != origin:
                if known.origin is not None:
                    raise Conflict(f"flow {key} belongs to the file {known.origin}")
                raise Conflict(f"flow {key} was put through the API and belongs to no file")
            same = known is not None and known.source_hash == source_hash
            if known is not None and same and known.retired_at is None:
                return known, False
            revision = (known.revision if known else 0) + (0 if same else 1)
            connection.execute(
                f"INSERT OR REPLACE INTO flows ({FLOW_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    *key,
                    revision,
                    source_hash,
                    origin,
                    int(disabled),
                    jsontext.dumps(summary),
                    to_micros(at),
                ),
            )
            if not same:
                connection.execute(
                    "INSERT INTO flow_revisions (namespace, id, revision, source, created_at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (*key, revision, source, to_micros(at)),
                )
            stored = _flow(connection, key)
            if stored is None:
                raise StorageError(f"flow {key} is not there after it was stored")
            return stored, True

        return await self._write(put)

    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        def retire(connection: sqlite3.Connection) -> None:
            found = connection.execute(
                "UPDATE flows SET retired_at = coalesce(retired_at, ?) WHERE namespace = ? AND id = ?",
                (to_micros(at), *key),
            )
            if found.rowcount == 0:
                raise NotFound(f"no flow {key}")

        await self._write(retire)

    async def flows(self) -> list[FlowRecord]:
        rows = await self._all(
            f"SELECT {FLOW_COLUMNS} FROM flows WHERE retired_at IS NULL ORDER BY namespace, id"
        )
        return [flow_of(row) for row in rows]

    async def flow(self, key: FlowKey) -> FlowRecord:
        row = await self._one(
            f"SELECT {FLOW_COLUMNS} FROM flows WHERE namespace = ? AND id = ?",
            key,
        )
        if row is None:
            raise NotFound(f"no flow {key}")
        return flow_of(row)

    async def flow_source(self, key: FlowKey, revision: int | None = None) -> tuple[int, str]:
        row = await self._one(
            "SELECT revision, source FROM flow_revisions WHERE namespace = ?1 AND id = ?2"
            " AND (?3 IS NULL OR revision = ?3) ORDER BY revision DESC LIMIT 1",
            (*key, revision),
        )
        if row is None:
            wanted = f" revision {revision}" if revision is not None else ""
            raise NotFound(f"no flow {key}{wanted}")
        return row[0], row[1]

    async def revisions(self, key: FlowKey) -> list[tuple[int, datetime]]:
        rows = await self._all(
            "SELECT revision, created_at FROM flow_revisions WHERE namespace = ? AND id = ?"
            " ORDER BY revision DESC",
            key,
        )
        if not rows:
            raise NotFound(f"no flow {key}")
        return [(row[0], from_micros(row[1])) for row in rows]

    # how it is reached

    async def _write(self, call: Callable[[sqlite3.Connection], T]) -> T:
        answer: T = await self._writer.submit(self._calls, call)
        return answer

    async def _one(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        rows = await self._all(sql, values)
        return rows[0] if rows else None

    async def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, sql, values)

    def _read(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
        try:
            return list(connection.execute(sql, values).fetchall())
        except sqlite3.DatabaseError as error:
            raise StorageUnavailable(f"sqlite: {error}") from error


def _run_calls(connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        connection.execute("SAVEPOINT one_call")
        try:
            job.answer = job.work(connection)
        except (StorageError, NotFound, Conflict) as refusal:
            connection.execute("ROLLBACK TO one_call")
            job.error = refusal
        connection.execute("RELEASE one_call")


def _flow(connection: sqlite3.Connection, key: FlowKey) -> FlowRecord | None:
    row = connection.execute(
        f"SELECT {FLOW_COLUMNS} FROM flows WHERE namespace = ? AND id = ?",
        key,
    ).fetchone()
    return flow_of(row) if row is not None else None


def _where(filter: ExecutionFilter) -> tuple[str, list[Any]]:
    parts: list[str] = ["1"]
    values: list[Any] = []
    for column, value in (("e.namespace", filter.namespace), ("e.flow", filter.flow)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if filter.states:
        parts.append(f"e.state IN ({','.join('?' * len(filter.states))})")
        values += [state.value for state in filter.states]
    for name, wanted in filter.labels.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(e.labels) l WHERE l.key = ? AND l.value = ?)")
        values += [name, wanted]
    for comparison, at in ((">=", filter.since), ("<", filter.until)):
        if at is not None:
            parts.append(f"e.created_at {comparison} ?")
            values.append(to_micros(at))
    return " AND ".join(parts), values


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _cursor_value(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text[0] != "s":
            raise ValueError(text)
        return int(text[1:])
    except (ValueError, IndexError):
        raise InvalidInput(f'"{cursor}" is not a cursor of this list') from None


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.netloc + parts.path)
    # sqlite:///relative and sqlite:////absolute, as SQLAlchemy and many others spell it
    return Path(path[1:] if path.startswith("/") else path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=10
    )
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _connect_for_writing(path: Path) -> sqlite3.Connection:
    fresh = not path.exists()
    connection = _connect(path)
    try:
        if fresh:
            # must be said before the first table is made
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: an answered write survives a power cut, not only a killed process
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        migrate(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StorageError(f"{path} cannot be used as a database: {error}") from error
    return connection
