"""How PostgreSQL is written to: what shares a commit, what waits for what, and how many round trips that takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hub.model.execution import Claim, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Arrival
from hub.testing.storage_samples import AT, a_run, an_event, an_execution, started, step
from tests.services.postgres import PostgresServer, fetch
from tests.support.postgres_nodes import QUICK, opened

_S = ExecutionState


async def test_a_claim_is_four_round_trips_and_one_of_nothing_three(database: str, tmp_path: Path) -> None:
    """An execution that waits for an idle hub waits for each of them."""
    async with opened(database, tmp_path) as storage:
        asked: list[str] = []
        await storage.claim(limit=10, at=AT)  # a new connection asks for the types once
        async with storage.connection() as connection:
            # the pool gives out the one that was used last
            connection.add_query_logger(lambda record: asked.append(record.query.split(maxsplit=1)[0]))
        for number in range(3):
            await storage.accept([Arrival((an_execution(id=f"e{number}"),))], at=AT, room=0)
        claims = await storage.claim(limit=10, at=AT)
        assert [claim.execution.id for claim in claims] == ["e0", "e1", "e2"]
        assert asked == ["BEGIN;", "WITH", "INSERT", "COMMIT"]
        asked.clear()
        assert await storage.claim(limit=10, at=AT) == []
        assert asked == ["BEGIN;", "WITH", "COMMIT"]


async def test_whoever_waits_for_all_that_is_being_written_waits_for_nothing_that_comes_later(
    database: str, tmp_path: Path
) -> None:
    async with opened(database, tmp_path / "a") as storage:
        stored = 0
        is_steady = asyncio.Event()

        async def arrive() -> None:
            nonlocal stored
            while True:
                await storage.accept([Arrival((an_execution(),), an_event())], at=AT, room=0)
                stored += 1
                if stored >= 32:
                    is_steady.set()

        async def go_on(claim: Claim, pause: float) -> None:
            nonlocal stored
            while True:
                # out of step with each other, so that some always come while others are being committed
                await asyncio.sleep(pause)
                await storage.record(step(claim, task_runs=(a_run(state=TaskRunState.RUNNING),)))
                stored += 1

        claims = [await started(storage) for _ in range(64)]
        senders = [asyncio.ensure_future(arrive()) for _ in range(16)]
        senders += [asyncio.ensure_future(go_on(claim, number * 1e-4)) for number, claim in enumerate(claims)]
        try:
            await is_steady.wait()
            for _ in range(20):
                before = stored
                await storage._writers.settled()
                assert stored - before < 500
            assert not any(sender.done() for sender in senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)


async def test_what_arrives_behind_a_call_hides_nothing_from_whoever_waits_for_what_came_before(
    database: str, tmp_path: Path
) -> None:
    given = QUICK.model_copy(update={"writers": 1})
    async with opened(database, tmp_path / "a", given) as storage:
        claim = await started(storage)
        writers = storage._writers
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: Any) -> None:
            begun.set()
            await go_on.wait()

        async def soon(_: Any) -> None: ...

        id = claim.execution.id
        first = writers.call(id, slow)
        await begun.wait()
        record = asyncio.ensure_future(storage.record(step(claim, progress=True)))
        await asyncio.sleep(0)
        second = writers.call(id, soon)
        settled = asyncio.ensure_future(writers.settled())
        await asyncio.sleep(0)
        arrivals = [storage.accept([Arrival((an_execution(),))], at=AT, room=0) for _ in range(5)]
        arriving = asyncio.gather(*arrivals)
        await asyncio.sleep(0)
        go_on.set()
        await settled
        assert first.done()
        assert record.done()
        assert second.done()
        await arriving


async def test_what_has_arrived_waits_for_no_call_while_another_connection_is_free(
    database: str, tmp_path: Path
) -> None:
    async with opened(database, tmp_path / "a") as storage:
        claim = await started(storage)
        go_on = asyncio.Event()

        async def slow(_: Any) -> None:
            await go_on.wait()

        call = storage._writers.call(claim.execution.id, slow)
        # its connection is about to take the call, and so seems to be about to take this too
        try:
            async with asyncio.timeout(10):
                await storage.accept([Arrival((an_execution(),))], at=AT, room=0)
            assert not call.done()
        finally:
            go_on.set()
            await call


async def test_what_is_written_is_found_by_its_key_from_the_first_row_on(
    durable_postgres: PostgresServer, tmp_path: Path
) -> None:
    url = durable_postgres.database()
    async with opened(url, tmp_path / "a") as storage:
        for _ in range(40):
            claims = [
                claim
                for accepted in await storage.accept(
                    [Arrival((an_execution(),), an_event()) for _ in range(25)], at=AT
                )
                for claim in accepted.claims
            ]
            await asyncio.gather(
                *(storage.record(step(one, state=_S.SUCCESS, task_runs=(a_run(),))) for one in claims)
            )
    # a table that was small when the plans were made: nothing has told the server of its growth
    read = await fetch(
        url, "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname = 'executions'"
    )
    assert read[0][0] < 1_000


async def test_an_arrival_is_three_round_trips_and_an_end_five(database: str, tmp_path: Path) -> None:
    """Callers wait for each of them, and each takes its share of the loop."""
    given = QUICK.model_copy(update={"writers": 1})
    async with opened(database, tmp_path, given) as storage:
        asked: list[str] = []
        [writer] = storage._writers._writers

        async def once() -> None:
            [accepted] = await storage.accept([Arrival((an_execution(),), an_event())], at=AT)
            asked.append("-")
            [claim] = accepted.claims
            await storage.record(step(claim, state=_S.SUCCESS, task_runs=(a_run(),)))

        await once()  # a new connection asks for the types once
        writer._connection.add_query_logger(lambda record: asked.append(record.query.split(maxsplit=1)[0]))
        asked.clear()
        await once()
        assert asked == ["BEGIN;", "WITH", "COMMIT", "-", "BEGIN;", "SELECT", "WITH", "WITH", "COMMIT"]
