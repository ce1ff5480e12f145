"""The storage contract on PostgreSQL: group commits over a few connections, reads beside them.

An answered write is durable. Any number of hubs may have the same database open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import metadata
from typing import Any, ClassVar, TypeVar

from hub.plugin import (
    Accepted,
    Arrival,
    ChangeSet,
    Claim,
    Clock,
    Ends,
    EventFilter,
    Execution,
    ExecutionFilter,
    FlowKey,
    FlowRecord,
    HubNode,
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
    to_micros,
)
from plugins_core.postgres import changes, claiming, flows, leases, notices, past, reading, steering
from plugins_core.postgres.accepting import AcceptWork
from plugins_core.postgres.address import SCHEMES, address_of
from plugins_core.postgres.changes import Numbers
from plugins_core.postgres.commits import Commit, Transactions
from plugins_core.postgres.membership import Membership
from plugins_core.postgres.news import Bell
from plugins_core.postgres.recording import RecordWork
from plugins_core.postgres.settings import PostgresSettings
from plugins_core.postgres.writers import Writers

T = TypeVar("T")


class PostgresStorage(Storage):
    """State in a PostgreSQL database."""

    type: ClassVar[str] = "postgres"
    schemes: ClassVar[tuple[str, ...]] = SCHEMES
    single_process: ClassVar[bool] = False
    file_store: ClassVar[str] = "postgres"

    def __init__(
        self, driver: Any, pool: Any, membership: Membership, transactions: Transactions, queue_limit: int
    ) -> None:
        self.driver = driver
        self._pool = pool
        self._membership = membership
        self._transactions = transactions
        self._bell = Bell(driver, driver.address, own=lambda: membership.number)
        self._writers = Writers(driver, transactions, count=driver.settings.writers, queue_limit=queue_limit)
        self._numbers = Numbers(transactions)
        self._calls: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
        from plugins_core.postgres.opening import prepare

        address = address_of(settings.url)
        given = settings.settings if settings.settings is not None else PostgresSettings()
        driver = await prepare(address, given)
        membership = Membership(driver, settings.data_dir, metadata.version("asynchub"))
        pool = await driver.pool("pool")
        storage: PostgresStorage

        def told(commit: Commit) -> None:
            storage.tell(commit)

        storage = cls(driver, pool, membership, Transactions(driver, membership, told), settings.queue_limit)
        try:
            await storage.begin()
            yield storage
        finally:
            await storage.end()

    # life

    async def begin(self) -> None:
        """Become a node and begin to write."""
        async with self.connection() as connection:
            self._transactions.base = await changes.base_of(connection)
            await self._membership.join(connection)
        await self._writers.start()
        self._membership.start()
        self._bell.start()

    async def end(self) -> None:
        """Write what waits, and be no node any more."""
        from plugins_core.postgres.driver import Failure

        await self._writers.stop()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._bell.stop()
        await self._membership.stop()
        try:
            async with self.connection() as connection:
                await self._membership.leave(connection)
        except (StorageUnavailable, *Failure):
            pass  # its lease runs out, and the others take over
        try:
            async with asyncio.timeout(2.0):
                await self._pool.close()
        except Failure:
            self._pool.terminate()

    def tell(self, commit: Commit) -> None:
        """A transaction was committed."""
        if commit.changes or commit.leaves_some:
            self._bell.ring(leaves_some=commit.leaves_some)

    # events and executions

    def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        room: int | None = None,
    ) -> asyncio.Future[list[Accepted]]:
        return self._writers.accept(AcceptWork.of_call(arrivals, at, move, room))

    def record(self, transition: Transition) -> asyncio.Future[Recorded]:
        return self._writers.record(RecordWork(transition))

    def record_soon(self, transition: Transition) -> None:
        self._writers.record_soon(RecordWork(transition))

    async def claim(self, *, limit: int, at: datetime, held: Mapping[str, int] | None = None) -> list[Claim]:
        counted = dict(held or {})
        # what waits to be written is of executions that are held: none of them can be claimed
        return await self._transact(
            lambda commit: claiming.claim_ready(commit, limit, at, counted), by_key=False
        )

    async def next_wake_at(self) -> datetime | None:
        found = await self._value("SELECT min(ready_at) FROM executions WHERE ready_at IS NOT NULL")
        return None if found is None else from_micros(found)

    async def take_over(self, *, at: datetime) -> int:
        await self._writers.settled()
        async with self.connection() as connection:
            released = await self._membership.start_anew(connection, to_micros(at))
        return released + await self.recover()

    async def request_kill(
        self, execution_id: str, *, at: datetime, reason: str, ends: Mapping[str, Ends] | None = None
    ) -> Killed:
        killed: Killed = await self._writers.call(
            execution_id, lambda commit: steering.request_kill(commit, execution_id, at, reason, ends)
        )
        return killed

    async def restart(self, restart: Restart) -> Execution:
        execution: Execution = await self._writers.call(
            restart.execution_id, lambda commit: steering.restart(commit, restart)
        )
        return execution

    async def execution(self, execution_id: str) -> Execution:
        return await self._read(lambda connection: reading.execution(connection, execution_id))

    async def executions(
        self, filter: ExecutionFilter, page: Page, *, count: bool = False
    ) -> Slice[Execution]:
        return await self._read(lambda connection: reading.executions(connection, filter, page, count))

    async def executions_of_events(
        self, event_ids: Sequence[str], *, with_replays: bool = False
    ) -> dict[str, list[Execution]]:
        ids = list(event_ids)
        return await self._read(
            lambda connection: reading.executions_of_events(connection, ids, with_replays)
        )

    async def task_runs(
        self, execution_id: str, page: Page, *, states: Sequence[TaskRunState] = ()
    ) -> Slice[TaskRun]:
        return await self._read(lambda connection: reading.task_runs(connection, execution_id, page, states))

    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        return await self._read(lambda connection: reading.scope_task_runs(connection, execution_id, scope))

    async def logs(self, execution_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        return await self._read(lambda connection: reading.logs(connection, execution_id, after, limit))

    async def log_size(self, execution_id: str) -> tuple[int, int]:
        return await self._read(lambda connection: reading.log_size(connection, execution_id))

    async def event(self, event_id: str) -> StoredEvent:
        return await self._read(lambda connection: reading.event(connection, event_id))

    async def events(self, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
        return await self._read(lambda connection: reading.events(connection, filter, page))

    async def waiting_events(self, key: TriggerKey, page: Page) -> Slice[StoredEvent]:
        return await self._read(lambda connection: reading.waiting_events(connection, key, page))

    async def settle_dead(self, event_id: str) -> None:
        async def settle(commit: Commit) -> None:
            found = await commit.connection.execute(
                "UPDATE events SET dead = NULL WHERE id = $1 AND dead IS NOT NULL", event_id
            )
            if found == "UPDATE 0":
                raise NotFound(f'no dead letter "{event_id}"')
            commit.changes.append(("event", event_id, "settled", None))

        await self._write(settle)

    async def counts(self) -> Mapping[str, int]:
        rows = await self._rows(
            "SELECT state, count(*) FROM executions WHERE ended_at IS NULL GROUP BY state"
        )
        return {row[0]: row[1] for row in rows}

    async def known_deliveries(self, scope: str, keys: Sequence[str], *, at: datetime) -> dict[str, str]:
        rows = await self._rows(
            "SELECT key, event_id FROM delivery_keys WHERE scope = $1 AND expires_at > $2"
            " AND key = ANY($3::text[])",
            scope,
            to_micros(at),
            list(keys),
        )
        return {row[0]: row[1] for row in rows}

    # notices

    async def claim_notices(self, *, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
        return await self._write(lambda commit: notices.claim(commit, at, room, others))

    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        return await self._write(lambda commit: notices.settle(commit, settlements))

    async def next_notice_at(self, *, but: Collection[str] = ()) -> datetime | None:
        found = await self._value(
            "SELECT min(due_at) FROM notices WHERE state = 'owed' AND claimed = 0"
            " AND notifier <> ALL($1::text[])",
            list(but),
        )
        return None if found is None else from_micros(found)

    async def notice(self, notice_id: str) -> Notice:
        return await self._read(lambda connection: notices.find(connection, notice_id))

    async def notices(self, filter: NoticeFilter, page: Page) -> Slice[Notice]:
        return await self._read(lambda connection: reading.notices(connection, filter, page))

    async def retry_notice(self, notice_id: str, *, at: datetime) -> Notice:
        return await self._write(lambda commit: notices.retry(commit, notice_id, at))

    async def drop_notice(self, notice_id: str, *, at: datetime) -> Notice:
        return await self._write(lambda commit: notices.drop(commit, notice_id, at))

    async def notice_counts(self) -> Mapping[str, int]:
        rows = await self._rows(
            "SELECT state, count(*) FROM notices WHERE state IN ('owed', 'dead') GROUP BY state"
        )
        return {row[0]: row[1] for row in rows}

    async def purge_notices(self, *, before: datetime, limit: int = 500) -> Purged:
        return await self._write(lambda commit: notices.purge(commit, before, limit))

    async def disabled_notifiers(self) -> dict[str, str]:
        rows = await self._rows("SELECT name, reason FROM disabled_notifiers")
        return {row[0]: row[1] for row in rows}

    async def enable_notifier(self, name: str) -> None:
        await self._write(
            lambda commit: commit.connection.execute("DELETE FROM disabled_notifiers WHERE name = $1", name)
        )

    # what live views read

    async def last_change(self) -> int:
        return await self._read(self._numbers.last)

    async def changes(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], bool]:
        return await self._read(lambda connection: self._numbers.after(connection, after, limit))

    # retention

    async def purge_executions(
        self, filter: ExecutionFilter, *, limit: int = 500, keep: Sequence[ExecutionFilter] = ()
    ) -> Purged:
        return await self._write(lambda commit: past.purge_executions(commit, filter, limit, keep))

    async def purge_events(
        self, filter: EventFilter, *, before: datetime, limit: int = 500, keep: Sequence[EventFilter] = ()
    ) -> Purged:
        return await self._write(lambda commit: past.purge_events(commit, filter, before, limit, keep))

    async def purge_rest(self, *, now: datetime, changes_before: datetime) -> bool:
        return await self._write(lambda commit: past.purge_rest(commit, now, changes_before))

    async def existing(self, ids: Sequence[str]) -> set[str]:
        rows = await self._rows(
            "SELECT id FROM executions WHERE id = ANY($1::text[])"
            " UNION SELECT id FROM events WHERE id = ANY($1::text[])",
            list(ids),
        )
        return {row[0] for row in rows}

    # triggers

    async def trigger_states(self) -> dict[TriggerKey, TriggerState]:
        return await self._read(reading.trigger_states)

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
        put = flows.Put(key, source, source_hash, summary, disabled, origin, at)
        return await self._write(lambda commit: flows.put(commit, put))

    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        await self._write(lambda commit: flows.retire(commit, key, at))

    async def flows(self) -> list[FlowRecord]:
        return await self._read(flows.in_use)

    async def flow(self, key: FlowKey) -> FlowRecord:
        return await self._read(lambda connection: flows.one(connection, key))

    async def flow_source(self, key: FlowKey, revision: int | None = None) -> tuple[int, str]:
        return await self._read(lambda connection: flows.source(connection, key, revision))

    async def revisions(self, key: FlowKey) -> list[tuple[int, datetime]]:
        return await self._read(lambda connection: flows.revisions(connection, key))

    # several hubs

    @property
    def clock(self) -> Clock | None:
        return self._membership.clock

    async def nodes(self) -> list[HubNode]:
        return await self._read(lambda connection: leases.nodes(connection, self._membership.number))

    async def request_drain(self, number: int) -> HubNode:
        await self._write(lambda commit: leases.request_drain(commit, number))
        return next(node for node in await self.nodes() if node.number == number)

    async def put_probe(self, uri: str) -> None:
        self._membership.probe = uri
        await self._write(lambda commit: leases.put_probe(commit, uri))

    async def recover(self) -> int:
        if not self._membership.may_judge:
            return 0
        async with self.connection() as connection:
            released = await leases.recover(connection, self._membership.number)
        if released:
            self._bell.ring(leaves_some=True)
        return released

    async def lease(self, key: TriggerKey) -> bool:
        return await self._write(lambda commit: leases.lease(commit, key))

    async def give_back(self, key: TriggerKey) -> None:
        await self._write(lambda commit: leases.give_back(commit, key))

    async def held_here(self, ids: Sequence[str]) -> set[str]:
        rows = await self._rows(
            "SELECT id FROM executions WHERE id = ANY($1::text[]) AND claimed = 1 AND node = $2",
            list(ids),
            self._membership.number,
        )
        return {row[0] for row in rows}

    async def changes_of_others(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], int]:
        return await self._read(
            lambda connection: self._numbers.of_others(connection, after, limit, self._membership.number)
        )

    async def wait_for_others(self, timeout: float) -> bool:
        return await self._bell.listen(min(timeout, self.driver.settings.poll.total_seconds()))

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._membership.on_lost = callback

    def on_drain(self, callback: Callable[[], None]) -> None:
        self._membership.on_drain = callback

    # moved

    @classmethod
    async def schema(cls, settings: StorageSettings) -> Schema:
        from plugins_core.postgres.checks import check_server
        from plugins_core.postgres.driver import Driver, Failure, connected, spelled
        from plugins_core.postgres.portable import schema_of

        address = address_of(settings.url)
        given = settings.settings if settings.settings is not None else PostgresSettings()
        driver = Driver(address, given)
        try:
            async with connected(driver, "schema") as connection:
                await check_server(connection, given)
                return await schema_of(connection, address)
        except Failure as error:
            raise StorageError(spelled(error)) from error

    @asynccontextmanager
    async def dumped(self) -> AsyncIterator[AsyncIterator[Rows]]:
        from plugins_core.postgres.portable import dumped

        async with self.connection() as connection, dumped(connection) as rows:
            yield rows

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[PortableLoad]:
        from plugins_core.postgres.portable import loading

        async with self.connection() as connection, loading(connection) as load:
            yield load

    # how it is reached

    async def _write(self, call: Callable[[Commit], Awaitable[T]]) -> T:
        """Do something in a transaction of its own, after all that waits to be written now."""
        await self._writers.settled()
        return await self._transact(call)

    async def _transact(self, call: Callable[[Commit], Awaitable[T]], *, by_key: bool = True) -> T:
        """Do something in a transaction of its own, which finds its rows by their keys unless told otherwise.

        It goes on when its caller has gone: whether it was stored is never left open.
        """
        task = asyncio.get_running_loop().create_task(self._in_transaction(call, by_key))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    async def _in_transaction(self, call: Callable[[Commit], Awaitable[T]], by_key: bool) -> T:
        async with self.connection() as connection:
            return await self._transactions.on(connection, call, by_key=by_key)

    async def _read(self, call: Callable[[Any], Awaitable[T]]) -> T:
        from plugins_core.postgres.driver import Failure, is_refusal

        try:
            async with self.connection() as connection:
                return await call(connection)
        except StorageUnavailable as error:
            cause = error.__cause__
            if not isinstance(cause, Failure) or is_refusal(cause):
                raise
        # a connection that broke while it rested, or a server that came back: read once more, over another
        async with self.connection() as connection:
            return await call(connection)

    async def _rows(self, sql: str, *values: Any) -> list[Any]:
        return await self._read(lambda connection: connection.fetch(sql, *values))

    async def _value(self, sql: str, *values: Any) -> Any:
        return await self._read(lambda connection: connection.fetchval(sql, *values))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection for a moment. What the driver raises is ``StorageUnavailable``, or ``StorageError``."""
        from plugins_core.postgres.driver import Failure, plain

        timeout = self.driver.settings.connect_timeout.total_seconds()
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                yield connection
        except Failure as error:
            raise plain(error) from error
