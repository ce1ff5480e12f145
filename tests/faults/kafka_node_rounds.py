"""Rounds over several hubs that read one topic into one PostgreSQL: members come and go, hubs are killed.

Two ledgers outside of the hubs: the producer's, of what the broker has acknowledged, and that of the tasks' calls,
which says whether two records of one partition were ever worked on side by side, or one after a later one.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.faults import kafka_rounds
from tests.faults.kafka_rounds import Plan
from tests.services.kafka import KafkaBroker
from tests.services.postgres import PostgresServer, fetch
from tests.support.hub_process import HubProcess
from tests.support.topics import Topics

_ROOT = Path(__file__).parents[2]
_START = str(Path(__file__).with_name("start_kafka_hub.py"))
_HUBS = 3
_FLOW = """id: work
namespace: faults
triggers:
  - {{id: stream, type: kafka.messages, topic: records, group: faults, orderedBy: partition}}
tasks:
  - id: call
    type: http.request
    uri: {ledger}
    query: {{partition: "{{{{ trigger.partition }}}}", offset: "{{{{ trigger.offset }}}}"}}
"""
_CALL_SECONDS = 0.003
"""How long a call takes: of two side by side the second begins before the first has ended."""


@dataclass
class NodeLedger(kafka_rounds.Ledger):
    """What the world outside the hubs knows."""

    calls: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By partition: the offsets that were worked on, in the order in which that began."""
    called: int = 0
    rebalances: int = 0
    """How often a member was seen to come or to go."""
    kills: int = 0
    _open: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Take the tasks' calls; gives the port."""

        async def called(request: web.Request) -> web.Response:
            partition, offset = int(request.query["partition"]), int(request.query["offset"])
            under_way = self._open[partition]
            others = [one for one in under_way if one != offset]
            if others:
                self.wrong.append(f"partition {partition}: {offset} was called while {others} were under way")
            self.calls[partition].append(offset)
            self.called += 1
            under_way[offset] = under_way.get(offset, 0) + 1
            try:
                await asyncio.sleep(_CALL_SECONDS)
            finally:
                under_way[offset] -= 1
                if not under_way[offset]:
                    del under_way[offset]
            return web.json_response({"ok": True})

        application = web.Application()
        application.router.add_get("/call", called)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    def check_calls(self) -> None:
        """Each record was worked on, and none after a later one of its partition."""
        for partition, numbers in self.acknowledged.items():
            calls = self.calls[partition]
            never = len(set(range(len(numbers))) - set(calls))
            if never:
                self.wrong.append(f"partition {partition}: {never} records were never worked on")
            late = sum(after < before for before, after in pairwise(calls))
            if late:
                self.wrong.append(f"partition {partition}: {late} records were worked on after a later one")


async def run_kafka_node_rounds(
    folder: Path,
    plan: Plan,
    *,
    members: int,
    bug: str = "none",
    seed: int | None = None,
    patience: float = 180.0,
) -> NodeLedger:
    """Send; meanwhile kill hubs and let ``members`` foreign ones come and go; then hold all accounts together."""
    chance = random.Random(seed)
    ledger = NodeLedger()
    broker = KafkaBroker(folder / "broker")
    await asyncio.to_thread(broker.start)
    try:
        with PostgresServer(durable=True) as server:
            database = await asyncio.to_thread(server.database)
            async with ledger.listening() as port:
                hubs = [_hub(folder / f"hub{n}", broker, database, port, bug) for n in range(_HUBS)]
                try:
                    await _rounds(hubs, broker, database, plan, ledger, chance, members, patience)
                finally:
                    await asyncio.gather(*(asyncio.to_thread(_end, hub) for hub in hubs))
            await _account(database, ledger)
    finally:
        await asyncio.to_thread(broker.stop)
    return ledger


async def _rounds(
    hubs: list[HubProcess],
    broker: KafkaBroker,
    database: str,
    plan: Plan,
    ledger: NodeLedger,
    chance: random.Random,
    members: int,
    patience: float,
) -> None:
    async with Topics.at(broker.bootstrap) as topics:
        await topics.create(name="records", partitions=plan.partitions)
    # one after another: the first brings the tables and the flow
    for hub in hubs:
        await asyncio.to_thread(hub.start)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kafka_rounds._send(broker, ledger, plan))
        tasks.create_task(_come_and_go(broker, ledger, members))
        tasks.create_task(_kill(hubs, plan, ledger, chance))
    await _settled(database, ledger, patience)


def _hub(folder: Path, broker: KafkaBroker, database: str, port: int, bug: str) -> HubProcess:
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "work.hub.yaml").write_text(_FLOW.format(ledger=f"http://127.0.0.1:{port}/call"))
    properties = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
    cluster = {"bootstrapServers": broker.bootstrap, "properties": properties}
    plugins = {
        "kafka": {"clusters": {"default": cluster}},
        "postgres": {"lease": "PT3S", "heartbeat": "PT0.5S", "connectTimeout": "PT2S"},
    }
    settings = {"storage": database, "flows": ["flows"], "plugins": plugins}
    (folder / "hub.yaml").write_text(json.dumps(settings))
    return HubProcess(folder, start=(sys.executable, _START, bug), env={"PYTHONPATH": str(_ROOT)})


def _end(hub: HubProcess) -> None:
    if hub.process is not None and hub.process.poll() is None:
        hub.kill()


async def _kill(hubs: list[HubProcess], plan: Plan, ledger: NodeLedger, chance: random.Random) -> None:
    """kill -9 one after another of them, and start it again: the others go on meanwhile."""
    for _ in range(plan.hub_kills):
        await asyncio.sleep(chance.uniform(*plan.between))
        hub = chance.choice(hubs)
        hub.kill()
        ledger.kills += 1
        await asyncio.sleep(chance.uniform(0, 1.0))
        await asyncio.to_thread(hub.start)


async def _come_and_go(broker: KafkaBroker, ledger: NodeLedger, members: int) -> None:
    """Join the hubs' group and leave it again, without having taken anything: partitions move both times."""
    for _ in range(members):
        async with kafka_rounds._member(broker) as consumer:
            until = time.monotonic() + 20
            # a group that is just being shared out anew lets nobody in
            while not consumer.assignment() and time.monotonic() < until:
                await asyncio.sleep(0.05)
            ledger.rebalances += 2 if consumer.assignment() else 1
        await asyncio.sleep(1.0)


async def _settled(database: str, ledger: NodeLedger, patience: float) -> None:
    """Return once as many records were taken as there are and all executions have ended, or out of patience."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        [(events, live)] = await fetch(
            database,
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM executions WHERE ended_at IS NULL)",
        )
        if events >= ledger.sent and live == 0:
            # a repeat would come now
            await asyncio.sleep(1.0)
            return
        await asyncio.sleep(0.25)


async def _account(database: str, ledger: NodeLedger) -> None:
    """Hold the hubs' database against the ledgers."""
    rows = await fetch(
        database,
        "SELECT v.data, x.state FROM events v LEFT JOIN executions x ON x.event_id = v.id ORDER BY v.seq, x.seq",
    )
    [(ledger.events,)] = await fetch(database, "SELECT count(*) FROM events")
    found: dict[int, list[tuple[int, int, str | None, int, int]]] = defaultdict(list)
    for data, state in rows:
        record: dict[str, Any] = json.loads(data)
        # hubs' clocks differ by milliseconds: whether two overlapped is for the ledger of calls to say
        found[record["partition"]].append((record["offset"], record["value"]["n"], state, 0, 0))
    for partition, numbers in ledger.acknowledged.items():
        ledger.wrong += kafka_rounds._of_partition(partition, numbers, found[partition], set())
    ledger.check_calls()
