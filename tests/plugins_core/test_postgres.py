"""What is PostgreSQL's own: what a server must be like, migrations, several nodes at a time, and lines that break."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hub.clock import to_micros
from hub.errors import FenceRefused, InvalidInput, StorageError, StorageUnavailable
from hub.model.execution import Claim, ExecutionState, Queue
from hub.model.ids import TriggerKey
from hub.plugin import Arrival, EventFilter, ExecutionFilter, NotYours, Page, Storage
from hub.testing.storage_samples import (
    AT,
    a_child_of,
    a_delivery,
    a_run,
    an_event,
    an_execution,
    started,
    step,
)
from plugins_core.postgres import queues
from plugins_core.postgres.address import address_of
from plugins_core.postgres.changes import base_of
from plugins_core.postgres.commits import Commit, Mark, Transactions
from plugins_core.postgres.membership import DatabaseClock
from plugins_core.postgres.settings import PostgresSettings
from tests.services.postgres import PostgresServer, fetch
from tests.support.postgres_nodes import QUICK, opened
from tests.support.tcp_proxy import TcpProxy

_S = ExecutionState


@pytest.fixture
async def nodes(database: str, tmp_path: Path) -> AsyncIterator[list[Storage]]:
    """Three nodes over one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(database, tmp_path / name)) for name in ("a", "b", "c")]


async def test_whoever_closes_the_hubs_own_connections_is_refused(nodes: list[Storage]) -> None:
    for one in gc.get_objects():
        if isinstance(one, asyncpg.Connection) and type(one) is not asyncpg.Connection:
            with pytest.raises(NotYours, match="is the storage's, and stays open"):
                one.terminate()
            with pytest.raises(NotYours, match="is the storage's, and stays open"):
                await one.close()
            assert not one.is_closed()
            return
    pytest.fail("the storage has no connection")


# the server and its tables


async def test_a_server_that_may_lose_what_it_answered_is_refused_by_name(
    database: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="fsync = off"):
        async with opened(database, tmp_path, PostgresSettings()):
            pass


async def test_a_durable_server_is_taken(durable_postgres: PostgresServer, tmp_path: Path) -> None:
    url = await asyncio.to_thread(durable_postgres.database)
    async with opened(url, tmp_path, PostgresSettings()) as storage:
        assert await storage.counts() == {}


async def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        async with opened("postgresql://hub@127.0.0.1:1/none", tmp_path):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db?schema=Wrong-1",
        "postgresql://h/db?schema=pg_x",
        "postgresql://h:x/db",
        "mysql://h/db",
    ],
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        address_of(url)


async def test_two_hubs_in_schemas_of_their_own_see_nothing_of_each_other(
    database: str, tmp_path: Path
) -> None:
    async with (
        opened(f"{database}?schema=one", tmp_path / "one") as one,
        opened(f"{database}?schema=other", tmp_path / "other") as other,
    ):
        await started(one)
        assert len((await one.executions(ExecutionFilter(), Page())).items) == 1
        assert (await other.executions(ExecutionFilter(), Page())).items == ()


async def test_nodes_that_start_at_once_make_the_tables_once(database: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await asyncio.gather(
            *(stack.enter_async_context(opened(database, tmp_path / str(number))) for number in range(5))
        )
        assert await fetch(database, "SELECT count(*) FROM migrations") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE migrations SET checksum = 'other'", "with another content"),
        ("INSERT INTO migrations VALUES (99, '0099_later.sql', 'x', 0)", "newer asynchub"),
    ],
)
async def test_tables_of_another_hub_are_refused(database: str, tmp_path: Path, sql: str, said: str) -> None:
    async with opened(database, tmp_path):
        pass
    await fetch(database, sql)
    with pytest.raises(StorageError, match=said):
        async with opened(database, tmp_path):
            pass


async def test_a_restored_database_gives_higher_change_numbers(database: str, tmp_path: Path) -> None:
    """A server that was restored from a dump begins its transaction numbers anew."""
    async with opened(database, tmp_path) as storage:
        await started(storage)
        last = await storage.last_change()
    await fetch(database, "UPDATE changes SET number = number + 1000000000")
    async with opened(database, tmp_path) as storage:
        before = await storage.last_change()
        assert before == last + 1_000_000_000
        await started(storage)
        assert await storage.last_change() > before


# several nodes


async def test_a_hub_that_starts_beside_a_busy_one_counts_changes_as_that_does(
    nodes: list[Storage], database: str
) -> None:
    connection = await asyncpg.connect(database)

    class Meanwhile:
        """The starting hub's connection, slow enough for another hub's commit after each answer."""

        transaction = connection.transaction
        execute = connection.execute

        async def fetchrow(self, sql: str) -> Any:
            found = await connection.fetchrow(sql)
            await nodes[0].accept([Arrival((an_execution(),), an_event())], at=AT, room=0)
            return found

    try:
        assert await base_of(Meanwhile()) == 0
    finally:
        await connection.close()


async def test_a_delivery_that_all_nodes_take_at_once_is_one_event(nodes: list[Storage]) -> None:
    for number in range(20):
        arrivals = [Arrival((an_execution(),), an_event(), a_delivery(f"d{number}")) for _ in range(6)]
        answers = await asyncio.gather(*(nodes[n % 3].accept([one], at=AT) for n, one in enumerate(arrivals)))
        assert len({one.receipt.event_id for [one] in answers}) == 1
        assert sum(one.receipt.duplicate for [one] in answers) == 5
    assert len((await nodes[0].executions(ExecutionFilter(), Page(100))).items) == 20


async def test_many_keys_in_any_order_lock_nobody_out(nodes: list[Storage]) -> None:
    def some() -> list[Arrival]:
        return [Arrival((), an_event(), a_delivery(f"k{n}")) for n in range(50)]

    answers = await asyncio.gather(
        *(node.accept(arrivals, at=AT) for node in nodes for arrivals in (some(), list(reversed(some()))))
    )
    assert sum(not one.receipt.duplicate for answer in answers for one in answer) == 50


async def test_nodes_that_claim_at_once_share_out_and_claim_nothing_twice(nodes: list[Storage]) -> None:
    new = [an_execution() for _ in range(200)]
    await nodes[0].accept([Arrival((one,)) for one in new], at=AT, room=0)
    claimed: list[str] = []

    async def claim(node: Storage) -> None:
        while claims := await node.claim(limit=7, at=AT):
            claimed.extend(one.execution.id for one in claims)

    await asyncio.gather(*map(claim, nodes))
    # what another was just looking at is passed over, and found by a later look
    await claim(nodes[0])
    assert sorted(claimed) == sorted(one.id for one in new)


def test_a_clock_is_put_right_by_more_than_a_reading_leaves_open_and_by_nothing_less() -> None:
    """What one hub leaves for another is due by both their clocks."""
    clock, milli = DatabaseClock(), 1_000_000
    now = time.monotonic_ns()

    def shown_at(later: int) -> float:
        return (to_micros(clock.now()) - (time.monotonic_ns() - now) // 1000 - later) / 1000

    clock.set(0, now - milli, now + milli)
    assert abs(shown_at(0)) < 2
    clock.set(30_000, now - 40 * milli, now + 40 * milli)  # a slow answer says nothing
    assert abs(shown_at(0)) < 2
    clock.set(30_000, now - milli, now + milli)
    assert abs(shown_at(30_000)) < 2


async def test_a_parent_that_lets_go_while_its_child_ends_is_always_woken(nodes: list[Storage]) -> None:
    one, other, _ = nodes
    for _ in range(40):
        parent = await started(one)
        child = a_child_of(parent)
        await one.accept([Arrival((child,))], at=AT, room=0)
        [claim] = await other.claim(limit=1, at=AT)
        assert claim.execution.id == child.id
        _, recorded = await asyncio.gather(
            one.record(step(parent, state=_S.PAUSED, release=True, waits_for=(child.id,))),
            other.record(step(claim, state=_S.SUCCESS)),
        )
        # told to whoever holds it, or ready to be claimed: never neither, unless it looked itself
        [again] = await one.claim(limit=1, at=AT)
        assert again.execution.id == parent.execution.id, recorded
        await one.record(step(again, state=_S.SUCCESS))


async def test_a_kill_reaches_a_child_that_is_just_being_born(nodes: list[Storage]) -> None:
    one, other, _ = nodes
    for _ in range(40):
        parent = await started(one)
        child = a_child_of(parent)
        killed, [born] = await asyncio.gather(
            other.request_kill(parent.execution.id, at=AT, reason="enough"),
            one.accept([Arrival((child,))], at=AT),
        )
        found = await one.execution(child.id)
        assert found.state in (_S.KILLING, _S.CANCELLED), (killed, born)


async def test_ends_over_nodes_let_in_as_many_as_a_queue_has_room_for(nodes: list[Storage]) -> None:
    queue = Queue("q", 2)
    claims: list[Claim] = []
    for n in range(30):
        [accepted] = await nodes[n % 3].accept([Arrival((an_execution(queue=queue),))], at=AT)
        claims += accepted.claims
    assert len(claims) == 2
    ended = 0
    while claims:
        recorded = await asyncio.gather(
            *(nodes[n % 3].record(step(claim, state=_S.SUCCESS)) for n, claim in enumerate(claims))
        )
        ended += len(claims)
        claims = [claim for one in recorded for claim in one.claims]
        assert len(claims) <= 2
    assert ended == 30


@pytest.mark.parametrize(
    "statement",
    [queues._NEXT, queues._COUNT.replace("$1", "ARRAY[$1]")],
    ids=["who-is-next", "is-there-room"],
)
async def test_a_long_line_costs_no_more_than_a_short_one(
    database: str, tmp_path: Path, statement: str
) -> None:
    """Neither those that stand in a line nor those that have left it are read to find out who is next."""
    async with opened(database, tmp_path):
        await fetch(
            database,
            "INSERT INTO executions (id, namespace, flow, revision, state, inputs, labels, created_at, ended_at,"
            " claimed, fence, queue, queue_limit) SELECT 'e' || n, 'shop', 'orders', 1,"
            " CASE WHEN n <= 5000 THEN 'SUCCESS' WHEN n = 5001 THEN 'RUNNING' ELSE 'QUEUED' END, '{}', '{}', 1,"
            " CASE WHEN n <= 5000 THEN 1 END, 0, 1, 'line', 1 FROM generate_series(1, 40000) AS n",
        )
        await fetch(
            database, "VACUUM ANALYZE executions"
        )  # as the server does by itself once a table has grown
        [(shown,)] = await fetch(
            database, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.replace("$1", "'line'::text")
        )
        plan = json.loads(shown)[0]["Plan"]
        # all of either kind are some hundred pages
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40, shown


async def test_a_node_that_was_ended_writes_nothing_any_more(nodes: list[Storage], database: str) -> None:
    one, other, _ = nodes
    lost: list[int] = []
    one.on_lost(lambda: lost.append(1))
    claim = await started(one)
    [this] = [node.number for node in await one.nodes() if node.is_this]
    # its heartbeats go on, so it is taken for dead between two of them
    while await other.recover() == 0:
        await fetch(database, "UPDATE nodes SET lease_expires_at = 0 WHERE number = $1", this)
    with pytest.raises(FenceRefused):
        await one.record(step(claim, state=_S.SUCCESS))
    assert lost == [1]
    [again] = await other.claim(limit=1, at=AT + timedelta(days=10_000))
    assert (again.execution.id, again.fence, again.suspect) == (claim.execution.id, 2, True)
    # what it takes from now on it takes as another, which the rest hears of
    fresh = await started(one)
    assert (await one.record(step(fresh, state=_S.SUCCESS))).claims == ()


async def test_a_node_that_froze_in_the_middle_of_a_transaction_is_ended_all_the_same(
    nodes: list[Storage], database: str
) -> None:
    """Its locks end with its session, which the server ends."""
    one, other, _ = nodes
    claim = await started(one)
    [this] = [node.number for node in await one.nodes() if node.is_this]
    session = await asyncpg.connect(database, server_settings={"idle_in_transaction_session_timeout": "2000"})
    await session.execute(f"BEGIN; SELECT pg_advisory_xact_lock_shared({this})")
    async with asyncio.timeout(20):
        released = 0
        while not released:
            await fetch(database, "UPDATE nodes SET lease_expires_at = 0 WHERE number = $1", this)
            released = await other.recover()
    assert released == 1
    assert (await other.execution(claim.execution.id)).state is _S.CREATED
    session.terminate()


async def test_changes_are_read_in_an_order_that_nothing_comes_before_any_more(nodes: list[Storage]) -> None:
    seen: list[int] = []
    over = asyncio.Event()

    async def read() -> None:
        while True:
            last_round = over.is_set()
            found, is_whole = await nodes[2].changes(after=seen[-1] if seen else 0)
            assert is_whole
            seen.extend(one.number for one in found)
            if last_round and not found:
                return

    async def write(node: Storage) -> None:
        for _ in range(60):
            await started(node)

    reading = asyncio.create_task(read())
    await asyncio.gather(*(write(node) for node in nodes for _ in range(3)))
    over.set()
    await reading
    stored, _ = await nodes[0].changes(after=0, limit=10_000)
    assert seen == sorted(seen)
    assert seen == [one.number for one in stored], "one was passed over"


async def test_a_trigger_is_leased_to_one_node_until_that_ends(database: str, tmp_path: Path) -> None:
    key = TriggerKey("n", "f", "t")
    async with opened(database, tmp_path / "b") as other:
        async with opened(database, tmp_path / "a") as one:
            assert [await one.lease(key), await other.lease(key), await one.lease(key)] == [True, False, True]
        assert await other.lease(key)
        await other.give_back(key)


# lines that break


@pytest.fixture
async def proxied(
    durable_postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[tuple[TcpProxy, Storage, str]]:
    """A node whose every line goes through a proxy, and the database's own URL."""
    url = await asyncio.to_thread(durable_postgres.database)
    async with TcpProxy(durable_postgres.port).running() as proxy:
        through = url.replace(f":{durable_postgres.port}/", f":{proxy.port}/")
        async with opened(through, tmp_path) as storage:
            yield proxy, storage, url


@pytest.mark.parametrize("what", ["accept", "record", "kill"])
async def test_a_commit_whose_answer_is_lost_is_answered_as_it_ended(
    proxied: tuple[TcpProxy, Storage, str], what: str
) -> None:
    proxy, storage, url = proxied
    claim = await started(storage)
    proxy.cut_after = b"COMMIT"
    if what == "accept":
        event = an_event()
        [accepted] = await storage.accept([Arrival((an_execution(),), event)], at=AT)
        assert accepted.receipt.event_id == event.id
        assert len((await storage.events(EventFilter(), Page())).items) == 1
    elif what == "record":
        await storage.record(step(claim, state=_S.SUCCESS, task_runs=(a_run(),)))
    else:
        killed = await storage.request_kill(claim.execution.id, at=AT, reason="enough")
        assert killed.held == (claim.execution.id,)
    assert proxy.cut.is_set()
    expected = {"accept": "CREATED", "record": "SUCCESS", "kill": "KILLING"}[what]
    rows = await fetch(url, "SELECT state FROM executions WHERE id = $1", claim.execution.id)
    assert rows == [(expected,)]


async def test_a_line_that_breaks_before_the_commit_is_made_anew_at_once(
    proxied: tuple[TcpProxy, Storage, str],
) -> None:
    proxy, storage, _ = proxied
    for _ in range(5):
        await started(storage)
        proxy.reset()
    assert len((await storage.executions(ExecutionFilter(), Page())).items) == 5


async def test_a_half_open_line_answers_unavailable_in_bounded_time_and_comes_back(
    proxied: tuple[TcpProxy, Storage, str],
) -> None:
    proxy, storage, _ = proxied
    await started(storage)
    proxy.hold()
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        async with asyncio.timeout(40):
            await storage.accept([Arrival((an_execution(),), an_event())], at=AT)
    assert time.monotonic() - began < 20
    proxy.let_go()
    proxy.reset()
    async with asyncio.timeout(10):
        while True:
            try:
                await started(storage)
                break
            except StorageUnavailable:
                await asyncio.sleep(0.05)
    counts = await storage.counts()
    assert counts == {"CREATED": 2}, "what was answered unavailable is not there"


async def test_a_slow_line_stores_everything(proxied: tuple[TcpProxy, Storage, str]) -> None:
    proxy, storage, _ = proxied
    proxy.delay = 0.02
    await asyncio.gather(*(started(storage) for _ in range(20)))
    proxy.delay = 0.0
    assert await storage.counts() == {"CREATED": 20}


async def test_a_write_waits_for_no_lock_of_another_for_ever(database: str, tmp_path: Path) -> None:
    given = QUICK.model_copy(update={"lock_timeout": timedelta(milliseconds=300)})
    async with opened(database, tmp_path, given) as storage:
        other = await asyncpg.connect(database)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE executions")
                with pytest.raises(StorageUnavailable, match="lock timeout"):
                    await storage.accept([Arrival((an_execution(),), an_event())], at=AT)
        finally:
            await other.close()
        await storage.accept([Arrival((an_execution(),), an_event())], at=AT)


async def test_a_lost_commit_is_not_taken_for_another_that_was_given_its_number(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that crashes gives the numbers of what it had not flushed to other transactions."""
    mark = Transactions._mark
    async with opened(database, tmp_path) as storage:
        other, new = await asyncpg.connect(database), an_execution()

        async def given_away(self: Transactions, commit: Commit) -> Mark | None:
            made = await mark(self, commit)
            if made is None or new.id not in str(commit.changes):
                return made
            await other.execute("SELECT pg_terminate_backend($1)", commit.connection.get_server_pid())
            number = await other.fetchval("SELECT pg_current_xact_id()::text")
            return made._replace(transaction=number)

        with monkeypatch.context() as patch:
            patch.setattr(Transactions, "_mark", given_away)
            with pytest.raises(StorageUnavailable, match="did not arrive"):
                await storage.accept([Arrival((new,), an_event())], at=AT)
        assert await other.fetch("SELECT id FROM executions WHERE id = $1", new.id) == []
        await other.close()


async def test_a_server_that_crashes_and_comes_back_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with PostgresServer(durable=True) as server:
        url = await asyncio.to_thread(server.database)
        async with opened(url, tmp_path, replace_lease(QUICK)) as storage:
            answered: list[str] = []
            over = asyncio.Event()

            async def send() -> None:
                while not over.is_set():
                    new = an_execution()
                    try:
                        await storage.accept([Arrival((new,), an_event())], at=AT)
                        answered.append(new.id)
                    except StorageUnavailable:
                        await asyncio.sleep(0.02)

            senders = [asyncio.create_task(send()) for _ in range(8)]
            for _ in range(2):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.stop, immediately=True)
                await asyncio.to_thread(server.start)
                before, began = len(answered), time.monotonic()
                while len(answered) == before:
                    assert time.monotonic() - began < 10, "it did not come back"
                    await asyncio.sleep(0.02)
            over.set()
            await asyncio.gather(*senders)
            found = {row[0] for row in await fetch(url, "SELECT id FROM executions")}
            assert set(answered) <= found
            assert len(answered) == len(set(answered)) > 20


def replace_lease(given: PostgresSettings) -> PostgresSettings:
    return given.model_copy(update={"lease": timedelta(seconds=30), "allow_unsafe": False})
