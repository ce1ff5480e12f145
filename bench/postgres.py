"""(q) PostgreSQL: the way of an event beside the same writes without a hub, and what more hubs cost and bring."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.reading import ask_lists, list_rows
from bench.rows import Options, Row, median
from bench.subjects import ONE, Hub, folder, free_port, hub, python, server, write_flow
from tests.services.postgres import PostgresServer

_HOOK = "/api/v1/webhooks/bench/one/k"
_COUNT = "/api/v1/executions?state=SUCCESS&limit=1&count=true"
_CONNECTIONS = 32
_STATEMENTS = "shared_preload_libraries=pg_stat_statements"


def postgres(options: Options) -> list[Row]:
    """(q) webhook to durable SUCCESS on PostgreSQL, commits and statements per execution over nodes, idle claims."""
    requests = 3_000 if options.quick else 15_000
    with PostgresServer(durable=True, settings=[_STATEMENTS, "pg_stat_statements.track=top"]) as database:
        database.run("CREATE EXTENSION pg_stat_statements")
        bare = [_bare(database, requests) for _ in range(options.rounds)]
        by_nodes = {
            count: [_load(database, options, count, requests) for _ in range(options.rounds)]
            for count in (1, 2, 3)
        }
        claims = _idle_claims(database, options, 100 if options.quick else 300)
    rate, limit = median([one.per_second for one in by_nodes[1]]), median([one.per_second for one in bare])
    rows = [
        Row(
            "q",
            "executions/s, PostgreSQL, 32 connections",
            rate,
            limit,
            "/s",
            rate / limit,
            ">= 0.36",
            rate / limit >= 0.36,
        )
    ]
    one = median([found.statements for found in by_nodes[1]])
    for count, found in by_nodes.items():
        speed = median([each.per_second for each in found])
        rows.append(Row("q", f"executions/s, {count} nodes", speed, None, "/s"))
        rows.append(
            Row(
                "q",
                f"commits per execution, {count} nodes",
                median([each.commits for each in found]),
                None,
                "",
            )
        )
        statements = median([each.statements for each in found])
        rows.append(
            Row("q", f"statements per execution, {count} nodes", statements, one, "", statements / one)
        )
    rows.append(Row("q", "idle claim p50, left by another node", median(claims), None, "ms"))
    slow = sorted(claims)[int(len(claims) * 0.99)]
    rows.append(
        Row("q", "idle claim p99, left by another node", slow, None, "ms", slow / 20, "< 20 ms", slow < 20)
    )
    return rows


def lists(options: Options) -> list[Row]:
    """(r) the list of executions over a million past ones on PostgreSQL; start with ten thousand flows."""
    count = 100_000 if options.quick else 1_000_000
    with PostgresServer(durable=True) as database, folder() as data:
        url = database.database()
        python("bench.past", str(data), str(count), url)
        database.run("VACUUM ANALYZE", database=url.rpartition("/")[2])
        (data / "hub.yaml").write_text(f"storage: {url}\n")
        with hub(data, None, options.command) as running:
            rows = list_rows("r", ask_lists(running, count, 5 * options.rounds))
        return [*rows, *_start_with_flows(database, options)]


def _start_with_flows(database: PostgresServer, options: Options) -> list[Row]:
    flows = 1_000 if options.quick else 10_000
    with folder() as data:
        (data / "flows").mkdir()
        (data / "hub.yaml").write_text(f"storage: {database.database()}\n")
        for number in range(flows):
            source = ONE.replace("id: one", f"id: f{number}", 1)
            (data / "flows" / f"f{number}.hub.yaml").write_text(source)
        seconds = []
        for _ in range(2):
            with hub(data, data / "flows", options.command) as running:
                seconds.append(running.ready_seconds)
    return [
        Row("r", f"first start with {flows} flows", seconds[0], None, "s"),
        Row("r", f"start again with {flows} flows", seconds[1], None, "s"),
    ]


@dataclass(frozen=True)
class _Found:
    per_second: float
    commits: float = 0.0
    statements: float = 0.0


def _bare(database: PostgresServer, requests: int) -> _Found:
    port = str(free_port())
    with server("bench.bare.postgres", database.database(), port):
        python("bench.load", "127.0.0.1", port, "/hook", "/count", "4", "200")
        text = python("bench.load", "127.0.0.1", port, "/hook", "/count", str(_CONNECTIONS), str(requests))
    return _Found(json.loads(text)["perSecond"])


@contextmanager
def _hubs(database: PostgresServer, options: Options, count: int, url: str) -> Iterator[list[Hub]]:
    with ExitStack() as stack:
        hubs: list[Hub] = []
        for _ in range(count):
            data = stack.enter_context(folder())
            write_flow(data, ONE)
            (data / "hub.yaml").write_text(f"storage: {url}\n")
            hubs.append(stack.enter_context(hub(data, data / "flows", options.command)))
        yield hubs


def _load(database: PostgresServer, options: Options, count: int, requests: int) -> _Found:
    """Loads on all nodes at once, each its share."""
    url = database.database()
    with _hubs(database, options, count, url) as hubs:
        for one in hubs:
            python("bench.load", "127.0.0.1", str(one.port), _HOOK, _COUNT, "4", "200")
        name = url.rpartition("/")[2]
        before = _counters(database, name)
        # as many connections to each: how much waits together is what a commit is shared by
        texts = asyncio.run(_loads(hubs, requests // count, _CONNECTIONS))
        after = _counters(database, name)
    for text in texts:
        if set(json.loads(text)["statuses"]) != {"202"}:
            raise SystemExit(f"answers other than 202: {text}")
    done = requests // count * count
    speed = (
        sum(json.loads(text)["answeredPerSecond"] for text in texts)
        if count > 1
        else json.loads(texts[0])["perSecond"]
    )
    return _Found(speed, (after[0] - before[0]) / done, (after[1] - before[1]) / done)


async def _loads(hubs: list[Hub], requests: int, connections: int) -> list[str]:
    return await asyncio.gather(
        *(
            asyncio.to_thread(
                python,
                "bench.load",
                "127.0.0.1",
                str(one.port),
                _HOOK,
                _COUNT,
                str(connections),
                str(requests),
            )
            for one in hubs
        )
    )


def _counters(database: PostgresServer, name: str) -> tuple[int, int]:
    """Commits and statements of a database so far."""
    [(commits, statements)] = database.run(
        "SELECT xact_commit, (SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s WHERE s.dbid = d.oid)"
        f" FROM pg_stat_database d JOIN pg_database USING (datname) WHERE datname = '{name}'".replace(
            "d.oid", "d.datid"
        )
    )
    return commits, statements


def _idle_claims(database: PostgresServer, options: Options, count: int) -> list[float]:
    """Milliseconds from the commit of an execution that nobody has claimed until an idle hub starts it."""
    url = database.database()
    with _hubs(database, options, 1, url) as _:
        return asyncio.run(_left_behind(url, count))


async def _left_behind(url: str, count: int) -> list[float]:
    from hub.clock import SystemClock
    from hub.model.execution import NewExecution
    from hub.model.ids import FlowKey, new_id
    from hub.plugin.storage import Arrival, StorageSettings
    from plugins_core.postgres.storage import PostgresStorage

    times: list[float] = []
    with folder() as data:
        async with PostgresStorage.open(StorageSettings(url, Path(data), SystemClock())) as storage:
            clock = storage.clock
            assert clock is not None
            for _ in range(count):
                new = NewExecution(new_id(), FlowKey("bench", "one"), 1, clock.now(), labels={}, inputs={})
                await storage.accept([Arrival((new,))], at=clock.now(), room=0)
                committed = clock.now()
                while (
                    found := await storage.execution(new.id)
                ).started_at is None and not found.state.is_terminal:
                    await asyncio.sleep(0.002)
                started: Any = found.started_at or found.ended_at
                times.append(max((started - committed).total_seconds() * 1000, 0.0))
                await asyncio.sleep(0.02)
    return times
