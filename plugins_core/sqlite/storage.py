"""The storage contract on SQLite: WAL, ``synchronous=FULL``, one writer thread, readers beside it.

An answered write is flushed to disk. Reading happens on other connections and sees every answered write.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

from hub.plugin import (
    Accepted,
    Arrival,
    Change,
    ChangeSet,
    Claim,
    Conflict,
    Ends,
    EventFilter,
    Execution,
    ExecutionFilter,
    FlowKey,
    FlowRecord,
    InvalidInput,
    Killed,
    LogLine,
    NotFound,
    Notice,
    NoticeClaim,
    NoticeFilter,
    NoticeSettlement,
    Page,
    PortableLoad,
    Purged,
    Recorded,
    Restart,
    Rows,
    Schema,
    Slice,
    Storage,
    StorageError,
    StorageSettings,
    StorageUnavailable,
    StoredEvent,
    TaskRun,
    TaskRunState,
    Transition,
    TriggerKey,
    TriggerMove,
    TriggerState,
    from_micros,
    jsontext,
    to_micros,
)
from hub.plugin.rows import (
    EVENT_COLUMNS,
    EXECUTION_COLUMNS,
    FLOW_COLUMNS,
    NOTICE_COLUMNS,
    TASK_RUN_COLUMNS,
    execution_of,
    flow_of,
    log_lines_of,
    notice_of,
    stored_event_of,
    task_run_of,
)
from plugins_core.sqlite import accepting, notices, past, portable, recording, steering
from plugins_core.sqlite.migrate import migrate
from plugins_core.sqlite.writer import Commit, Job, Kind, OwnConnection, Writer, is_closed

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
        # what is accepted is new: no step that is waiting with it can be about it
        self._accepts: Kind[list[Accepted]] = Kind(accepting.run_accepts, commutes=True)
        self._records: Kind[Recorded] = Kind(recording.run_records, commutes=True)
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

    def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        room: int | None = None,
    ) -> Awaitable[list[Accepted]]:
        return self._writer.submit(self._accepts, accepting.AcceptWork(arrivals, at, move, room))

    def record(self, transition: Transition) -> asyncio.Future[Recorded]:
        return self._writer.submit(self._records, transition)

    def record_soon(self, transition: Transition) -> None:
        self._writer.submit_soon(self._records, transition)

    async def claim(self, *, limit: int, at: datetime, held: Mapping[str, int] | None = None) -> list[Claim]:
        # as it is now: the writer is another thread
        counted = dict(held or {})
        return await self._write(lambda commit: recording.claim_ready(commit.connection, limit, at, counted))

    async def next_wake_at(self) -> datetime | None:
        row = await self._one("SELECT min(ready_at) FROM executions WHERE ready_at IS NOT NULL")
        return None if row is None or row[0] is None else from_micros(row[0])

    async def take_over(self, *, at: datetime) -> int:
        return await self._write(lambda commit: recording.take_over(commit.connection, at))

    async def request_kill(
        self, execution_id: str, *, at: datetime, reason: str, ends: Mapping[str, Ends] | None = None
    ) -> Killed:
        return await self._write(lambda commit: steering.request_kill(commit, execution_id, at, reason, ends))

    async def restart(self, restart: Restart) -> Execution:
        return await self._write(lambda commit: steering.restart(commit, restart))

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
        sources = await past.execution_sources(filter, self._row)
        total = None
        if count:
            counts = [
                await self._row(f"SELECT count(*) FROM {one.tables} WHERE {one.where}", one.values)
                for one in sources
            ]
            total = sum(row[0] for row in counts)
        if page.cursor is not None:
            seq = _cursor_value(page.cursor)
            sources = [one.before(seq) for one in sources]
        # the places of what is shown first: an index has them, and the rows are read for no others
        places = " UNION ALL ".join(
            f"SELECT * FROM (SELECT e.seq FROM {one.tables} WHERE {one.where} ORDER BY e.seq DESC LIMIT ?)"
            for one in sources
        )
        rows = await self._all(
            f"SELECT {EXECUTION_COLUMNS}, e.seq FROM executions e WHERE e.seq IN ({places})"
            " ORDER BY e.seq DESC LIMIT ?",
            [*(v for one in sources for v in (*one.values, page.limit + 1)), page.limit + 1],
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(execution_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None, total)

    async def executions_of_events(
        self, event_ids: Sequence[str], *, with_replays: bool = False
    ) -> dict[str, list[Execution]]:
        wanted = (
            "SELECT value AS asked, value AS event FROM json_each(?1)"
            " UNION ALL SELECT id, batch FROM events WHERE id IN (SELECT value FROM json_each(?1)) AND batch > ''"
        )
        if with_replays:
            wanted += " UNION ALL SELECT replay_of, id FROM events WHERE replay_of IN (SELECT value FROM json_each(?1))"
        rows = await self._all(
            f"SELECT {EXECUTION_COLUMNS}, w.asked FROM ({wanted}) w JOIN executions e"
            " ON e.event_id = w.event ORDER BY e.seq",
            (jsontext.dumps(list(event_ids)),),
        )
        found: dict[str, list[Execution]] = {}
        for row in rows:
            found.setdefault(row[-1], []).append(execution_of(row))
        return found

    async def task_runs(
        self, execution_id: str, page: Page, *, states: Sequence[TaskRunState] = ()
    ) -> Slice[TaskRun]:
        after = _cursor_value(page.cursor) if page.cursor is not None else 0
        wanted = f" AND state IN ({','.join('?' * len(states))})" if states else ""
        rows = await self._all(
            f"SELECT {TASK_RUN_COLUMNS}, seq FROM task_runs WHERE execution_id = ? AND seq > ?{wanted}"
            " ORDER BY seq LIMIT ?",
            (execution_id, after, *(state.value for state in states), page.limit + 1),
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

    async def log_size(self, execution_id: str) -> tuple[int, int]:
        row = await self._one(
            "SELECT count(*), coalesce(sum(length(json_extract(line.value, '$[2]'))), 0) FROM logs, json_each(logs.lines) AS line"
            " WHERE execution_id = ?",
            (execution_id,),
        )
        return (row[0], row[1]) if row is not None else (0, 0)

    async def event(self, event_id: str) -> StoredEvent:
        row = await self._one(f"SELECT {EVENT_COLUMNS} FROM events WHERE id = ?", (event_id,))
        if row is None:
            raise NotFound(f'no event "{event_id}"')
        return stored_event_of(row)

    async def events(self, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
        where, values = past.event_where(filter)
        if page.cursor is not None:
            where, values = where + " AND seq < ?", [*values, _cursor_value(page.cursor)]
        rows = await self._all(
            f"SELECT {EVENT_COLUMNS}, seq FROM events WHERE {where} ORDER BY seq DESC LIMIT ?",
            [*values, page.limit + 1],
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(stored_event_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None)

    async def waiting_events(self, key: TriggerKey, page: Page) -> Slice[StoredEvent]:
        after = _cursor_value(page.cursor) if page.cursor is not None else 0
        rows = await self._all(
            f"SELECT {EVENT_COLUMNS}, seq FROM events WHERE namespace = ? AND flow = ? AND trigger = ?"
            " AND batch = '' AND seq > ? ORDER BY seq LIMIT ?",
            (*key, after, page.limit + 1),
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Slice(tuple(stored_event_of(row) for row in rows), _cursor(rows[-1][-1]) if more else None)

    async def settle_dead(self, event_id: str) -> None:
        def settle(commit: Commit) -> None:
            found = commit.connection.execute(
                "UPDATE events SET dead = NULL WHERE id = ? AND dead IS NOT NULL", (event_id,)
            )
            if found.rowcount == 0:
                raise NotFound(f'no dead letter "{event_id}"')
            commit.changes.append(("event", event_id, "settled", None))

        await self._write(settle)

    async def counts(self) -> Mapping[str, int]:
        rows = await self._all("SELECT state, count(*) FROM executions WHERE ended_at IS NULL GROUP BY state")
        return {row[0]: row[1] for row in rows}

    async def known_deliveries(self, scope: str, keys: Sequence[str], *, at: datetime) -> dict[str, str]:
        rows = await self._all(
            "SELECT key, event_id FROM delivery_keys WHERE scope = ? AND expires_at > ?"
            " AND key IN (SELECT value FROM json_each(?))",
            (scope, to_micros(at), jsontext.dumps(list(keys))),
        )
        return dict(rows)

    # notices

    async def claim_notices(self, *, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
        return await self._write(lambda commit: notices.claim(commit.connection, at, room, others))

    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        return await self._write(lambda commit: notices.settle(commit, settlements))

    async def next_notice_at(self, *, but: Collection[str] = ()) -> datetime | None:
        row = await self._one(
            "SELECT min(due_at) FROM notices WHERE state = 'owed' AND claimed = 0"
            " AND notifier NOT IN (SELECT value FROM json_each(?))",
            (jsontext.dumps(list(but)),),
        )
        return None if row is None or row[0] is None else from_micros(row[0])

    async def notice(self, notice_id: str) -> Notice:
        row = await self._one(f"SELECT {NOTICE_COLUMNS} FROM notices WHERE id = ?", (notice_id,))
        if row is None:
            raise NotFound(f'no notice "{notice_id}"')
        return notice_of(row)

    async def notices(self, filter: NoticeFilter, page: Page) -> Slice[Notice]:
        where, values = notices.where(filter)
        if page.cursor is not None:
            where, values = where + " AND seq < ?", [*values, _cursor_value(page.cursor)]
        rows = await self._all(
            f"SELECT {NOTICE_COLUMNS}, seq FROM notices WHERE {where} ORDER BY seq DESC LIMIT ?",
            [*values, page.limit + 1],
        )
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        found = tuple(map(notice_of, rows))
        return Slice(found, _cursor(rows[-1][-1]) if more else None)

    async def retry_notice(self, notice_id: str, *, at: datetime) -> Notice:
        return await self._write(lambda commit: notices.retry(commit, notice_id, at))

    async def drop_notice(self, notice_id: str, *, at: datetime) -> Notice:
        return await self._write(lambda commit: notices.drop(commit, notice_id, at))

    async def notice_counts(self) -> Mapping[str, int]:
        rows = await self._all(
            "SELECT state, count(*) FROM notices WHERE state IN ('owed', 'dead') GROUP BY state"
        )
        return {row[0]: row[1] for row in rows}

    async def purge_notices(self, *, before: datetime, limit: int = 500) -> Purged:
        return await self._write(lambda commit: notices.purge(commit.connection, before, limit))

    async def disabled_notifiers(self) -> dict[str, str]:
        return {row[0]: row[1] for row in await self._all("SELECT name, reason FROM disabled_notifiers")}

    async def enable_notifier(self, name: str) -> None:
        def enable(commit: Commit) -> None:
            commit.connection.execute("DELETE FROM disabled_notifiers WHERE name = ?", (name,))

        await self._write(enable)

    # what live views read

    async def last_change(self) -> int:
        # a number that was given out is never given out again, whatever was purged
        row = await self._one("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return row[0] if row else 0

    async def changes(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], bool]:
        rows = await self._all(
            "SELECT number, at, items FROM changes WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
        )
        sets = [
            ChangeSet(number, from_micros(at), tuple(Change(*item) for item in jsontext.loads(items)))
            for number, at, items in rows
        ]
        # asked after the rows were read: what was removed before they were is missed by none of them
        oldest = await self._one(
            "SELECT coalesce((SELECT min(number) FROM changes),"
            " (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'changes'), 1)"
        )
        return sets, oldest is None or after >= oldest[0] - 1

    # retention

    async def purge_executions(
        self, filter: ExecutionFilter, *, limit: int = 500, keep: Sequence[ExecutionFilter] = ()
    ) -> Purged:
        return await self._write(lambda commit: past.purge_executions(commit.connection, filter, limit, keep))

    async def purge_events(
        self, filter: EventFilter, *, before: datetime, limit: int = 500, keep: Sequence[EventFilter] = ()
    ) -> Purged:
        return await self._write(
            lambda commit: past.purge_events(commit.connection, filter, before, limit, keep)
        )

    async def purge_rest(self, *, now: datetime, changes_before: datetime) -> bool:
        return await self._write(lambda commit: past.purge_rest(commit.connection, now, changes_before))

    async def existing(self, ids: Sequence[str]) -> set[str]:
        rows = await self._all(
            "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM executions WHERE id = value)"
            " OR EXISTS (SELECT 1 FROM events WHERE id = value)",
            (jsontext.dumps(list(ids)),),
        )
        return {row[0] for row in rows}

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
        def put(commit: Commit) -> tuple[FlowRecord, bool]:
            connection = commit.connection
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
            commit.changes.append(("flow", str(key), None, str(key)))
            return stored, True

        return await self._write(put)

    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        def retire(commit: Commit) -> None:
            found = commit.connection.execute(
                "UPDATE flows SET retired_at = coalesce(retired_at, ?) WHERE namespace = ? AND id = ?",
                (to_micros(at), *key),
            )
            if found.rowcount == 0:
                raise NotFound(f"no flow {key}")
            commit.changes.append(("flow", str(key), None, str(key)))

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

    # moved

    @classmethod
    async def schema(cls, settings: StorageSettings) -> Schema:
        return await asyncio.to_thread(portable.schema_of, _path_of(settings.url))

    def dumped(self) -> AbstractAsyncContextManager[AsyncIterator[Rows]]:
        return portable.dumped(self._path)

    def loading(self) -> AbstractAsyncContextManager[PortableLoad]:
        return portable.loading(self._path)

    # how it is reached

    async def _write(self, call: Callable[[Commit], T]) -> T:
        answer: T = await self._writer.submit(self._calls, call)
        return answer

    async def _one(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        rows = await self._all(sql, values)
        return rows[0] if rows else None

    async def _row(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The row of a query that always has one."""
        [row] = await self._all(sql, values)
        return row

    async def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, sql, values)

    def _read(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        connection = getattr(self._local, "connection", None)
        if connection is None or is_closed(connection):
            connection = self._local.connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
        try:
            return list(connection.execute(sql, values).fetchall())
        except sqlite3.DatabaseError as error:
            raise StorageUnavailable(f"sqlite: {error}") from error


def _run_calls(commit: Commit, jobs: Sequence[Job[Any]]) -> None:
    connection = commit.connection
    for job in jobs:
        told = len(commit.changes)
        connection.execute("SAVEPOINT one_call")
        try:
            job.answer = job.work(commit)
        except (StorageError, NotFound, Conflict) as refusal:
            connection.execute("ROLLBACK TO one_call")
            del commit.changes[told:]
            job.error = refusal
        connection.execute("RELEASE one_call")


def _flow(connection: sqlite3.Connection, key: FlowKey) -> FlowRecord | None:
    row = connection.execute(
        f"SELECT {FLOW_COLUMNS} FROM flows WHERE namespace = ? AND id = ?",
        key,
    ).fetchone()
    return flow_of(row) if row is not None else None


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


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    # sqlite:///relative and sqlite:////absolute, as SQLAlchemy and many others spell it
    if (
        not url.startswith("sqlite:///")
        or not path[1:]
        or path.endswith("/")
        or parts.query
        or parts.fragment
    ):
        raise InvalidInput(
            f'the storage "{url}" names no file', hint="write sqlite:///PATH, as sqlite:///hub.db"
        )
    return Path(path[1:])


def _connect(path: Path) -> OwnConnection:
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=10,
        factory=OwnConnection,
    )
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _make_private(path: Path) -> None:
    """Let nobody else read the database; SQLite gives its log and index the rights that the file has."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):
        # another's file that we may use is left as it is
        with suppress(FileNotFoundError, PermissionError):
            os.chmod(f"{path}{suffix}", 0o600)


def _connect_for_writing(path: Path) -> OwnConnection:
    fresh = not path.exists()
    try:
        _make_private(path)
        connection = _connect(path)
    except (OSError, sqlite3.DatabaseError) as error:
        raise StorageError(f"{path} cannot be used as a database: {error}") from error
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
        connection.let_go()
        raise StorageError(f"{path} cannot be used as a database: {error}") from error
    return connection
