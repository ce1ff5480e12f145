"""Rounds of load and faults over several hubs and one PostgreSQL, with the account kept outside of all of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp

from tests.faults.ledger import Ledger
from tests.faults.rounds import _TICK, _WORK
from tests.services.postgres import PostgresServer, fetch
from tests.support.hub_process import HubProcess

_ROOT = Path(__file__).parents[2]
_START = str(Path(__file__).with_name("start_node.py"))
_SENDERS = 6
_PATIENCE = 90.0
_FAKED = 1
_CLOCK_FILE = "clock"
_ENDED = "('SUCCESS','WARNING','FAILED','KILLED','CANCELLED')"


@dataclass
class Cluster:
    """Hubs over one PostgreSQL, a ledger, and what is done to them."""

    server: PostgresServer
    database: str
    hubs: list[HubProcess]
    ledger: Ledger
    chance: random.Random
    starts: int = 0
    """How often a hub was started: so many incarnations there are, and no more."""
    refused: list[float] = field(default_factory=list)
    """When a hub that ran did not answer with 202."""
    careful: bool = False
    """Whether requests go only to hubs that say that they are ready."""
    stored: list[tuple[str, int]] = field(default_factory=list)
    """Each schedule's name and how many of its planned times are missing between its first and last."""
    forgiven: list[tuple[float, float]] = field(default_factory=list)
    """When a hub that was frozen may have finished what it was just doing."""

    async def start(self, *hubs: HubProcess) -> None:
        self.starts += len(hubs)
        await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in hubs))

    async def kill_one(self) -> None:
        """kill -9 one hub, and start it again after a while: the others go on meanwhile."""
        hub = self.chance.choice(self.hubs)
        hub.kill()
        await asyncio.sleep(self.chance.uniform(0.0, 1.0))
        await self.start(hub)

    async def kill_all(self) -> None:
        """kill -9 all of them at once."""
        for hub in self.hubs:
            hub.kill()
        await self.start(*self.hubs)

    async def roll(self) -> None:
        """Restart every hub, one after another, as a roll-out does."""
        for hub in self.hubs:
            await asyncio.to_thread(hub.stop)
            await self.start(hub)

    def ready(self) -> list[HubProcess]:
        """Those that a load balancer would send requests to: it asks each whether it is ready."""
        return [hub for hub in self.hubs if _is_ready(hub)]

    async def move_the_clock(self, seconds: float) -> None:
        """Move the wall clock of the hub whose clock can be, while it runs; how far it is off from then on."""
        hub = self.hubs[_FAKED]
        (hub.data / _CLOCK_FILE).write_text(f"{seconds:+.0f}")
        answer = await asyncio.to_thread(hub.call, "GET", "/health/live")
        shown = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        assert abs(shown - seconds) < 30, f"its clock is off by {shown} s, not by {seconds} s"

    async def freeze_one(self, seconds: float) -> None:
        """Stop one for longer than its lease, then let it go on: it holds nothing any more."""
        hub = self.chance.choice(self.hubs)
        assert hub.process is not None
        os.kill(hub.process.pid, signal.SIGSTOP)
        self.starts += 1  # it goes on as another incarnation
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(hub.process.pid, signal.SIGCONT)
            now = time.monotonic()
            self.forgiven.append((now, now + 3.0))

    async def crash_the_server(self) -> None:
        """Stop PostgreSQL as a crash does, and start it again."""
        await asyncio.to_thread(self.server.stop, immediately=True)
        await asyncio.sleep(self.chance.uniform(0.0, 2.0))
        await asyncio.to_thread(self.server.start)

    async def cut_connections(self) -> None:
        """Let the server end some of the hubs' connections."""
        await fetch(
            self.server.dsn("postgres"),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'asynchub%' AND random() < 0.5",
        )


Fault = Callable[[Cluster], Awaitable[None]]


async def run_node_rounds(
    folder: Path,
    rounds: int,
    fault: Fault,
    *,
    hubs: int = 3,
    bug: str = "none",
    lease: float = 3.0,
    clocks: Mapping[int, float] | None = None,
    seed: int | None = None,
    pause: tuple[float, float] = (0.2, 1.2),
    careful: bool = False,
    schedules: int = 0,
    faketime: Path | None = None,
) -> tuple[Cluster, list[str]]:
    """Load and faults; then let everything end and hold the hubs' account against the ledger."""
    chance = random.Random(seed)
    ledger = Ledger()
    with PostgresServer(durable=True) as server:
        async with ledger.listening() as port:
            database = await asyncio.to_thread(server.database)
            made = [
                _hub(folder / f"hub{number}", database, port, bug, lease, (clocks or {}).get(number, 0.0))
                for number in range(hubs)
            ]
            if faketime is not None:
                _let_its_clock_be_moved(made[_FAKED], faketime)
            cluster = Cluster(server, database, made, ledger, chance, careful=careful)
            for hub in made:
                _add_schedules(hub.data / "flows", schedules)
            # one after another: the first brings the tables and the flows
            for hub in made:
                await cluster.start(hub)
            try:
                async with _sending(cluster):
                    for _ in range(rounds):
                        await asyncio.sleep(chance.uniform(*pause))
                        await fault(cluster)
                    await asyncio.sleep(0.5)
                wrong = await _account(cluster)
            finally:
                await asyncio.gather(*(asyncio.to_thread(hub.stop) for hub in made))
    return cluster, wrong


def find_faketime() -> Path | None:
    """The library that moves a process's wall clock, where the machine has it."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def _let_its_clock_be_moved(hub: HubProcess, faketime: Path) -> None:
    (hub.data / _CLOCK_FILE).write_text("+0")
    hub.env |= {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(hub.data / _CLOCK_FILE),
        "FAKETIME_NO_CACHE": "1",
        # nobody's jumps
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _add_schedules(flows: Path, count: int) -> None:
    for number in range(count):
        (flows / f"s{number}.hub.yaml").write_text(
            f"id: s{number}\nnamespace: many\ntriggers: [{{id: t, type: schedule.every, interval: PT1S, missed: all,"
            " missedCap: 5000}]\ntasks: [{id: a, type: return, value: 1}]\n"
        )


def _is_ready(hub: HubProcess) -> bool:
    try:
        return hub.port != 0 and hub.call("GET", "/health/ready").status == 200
    except OSError:
        return False


def _hub(folder: Path, database: str, port: int, bug: str, lease: float, clock_off: float) -> HubProcess:
    flows = folder / "flows"
    flows.mkdir(parents=True)
    uri = f"http://127.0.0.1:{port}/call"
    (flows / "work.hub.yaml").write_text(_WORK.format(ledger=uri))
    (flows / "clock.hub.yaml").write_text(_TICK.format(ledger=uri))
    beat = f"PT{lease / 6}S"
    plugins = {"postgres": {"lease": f"PT{lease}S", "heartbeat": beat, "connectTimeout": "PT2S"}}
    (folder / "hub.yaml").write_text(json.dumps({"storage": database, "plugins": plugins}))
    environ = {"PYTHONPATH": str(_ROOT), "HUB_TEST_CLOCK_OFF": str(clock_off)}
    return HubProcess(folder, flows=flows, start=(sys.executable, _START, bug), env=environ)


# load


@asynccontextmanager
async def _sending(cluster: Cluster) -> AsyncIterator[None]:
    """Senders that repeat a delivery until any of the hubs has answered it, as behind a load balancer."""
    over = asyncio.Event()
    jobs = [asyncio.create_task(_send_for_ever(cluster, over)) for _ in range(_SENDERS)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*jobs)


async def _send_for_ever(cluster: Cluster, over: asyncio.Event) -> None:
    ledger, chance = cluster.ledger, cluster.chance
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while not over.is_set():
            ledger.sent += 1
            number = ledger.sent
            while not await _deliver(cluster, session, number):
                await asyncio.sleep(0.05)
            # now and then a service repeats what was answered already, to any of them
            if chance.random() < 0.2:
                await _deliver(cluster, session, number)
            await asyncio.sleep(chance.uniform(0, 0.1))


async def _deliver(cluster: Cluster, session: aiohttp.ClientSession, number: int) -> bool:
    hubs = cluster.hubs
    if cluster.careful:
        hubs = await asyncio.to_thread(cluster.ready)
        if not hubs:
            return False
    hub = cluster.chance.choice(hubs)
    try:
        async with session.post(
            f"{hub.url}/api/v1/webhooks/faults/work/k",
            json={"n": number},
            headers={"X-Delivery": str(number)},
        ) as answer:
            if answer.status == 202:
                cluster.ledger.answered(number, await answer.json())
                return True
            if answer.status < 500:
                cluster.ledger.wrong.append(f"delivery {number}: {answer.status} {await answer.text()}")
            cluster.refused.append(time.monotonic())
    except (aiohttp.ClientError, TimeoutError, OSError):
        if cluster.careful:
            cluster.refused.append(time.monotonic())
    return False


# the account


async def _account(cluster: Cluster) -> list[str]:
    """Wait until every execution has ended, then compare."""
    for hub in cluster.hubs:
        (hub.data / "flows" / "clock.hub.yaml").unlink()
    # the schedule never rests: retired, so that its executions end too
    await fetch(cluster.database, "UPDATE flows SET disabled = 1 WHERE id = 'clock' OR namespace = 'many'")
    for hub in cluster.hubs:
        for path in (hub.data / "flows").glob("s*.hub.yaml"):
            path.unlink()
    await asyncio.gather(*(asyncio.to_thread(_restart, hub) for hub in cluster.hubs))
    cluster.starts += len(cluster.hubs)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if not await fetch(cluster.database, "SELECT 1 FROM executions WHERE ended_at IS NULL LIMIT 1"):
            break
        await asyncio.sleep(0.1)
    cluster.stored = await _gaps(cluster)
    asked = cluster.hubs[0]
    executions = await asyncio.to_thread(asked.all_of, "/api/v1/executions")
    events = await asyncio.to_thread(asked.all_of, "/api/v1/events")
    cluster.ledger.forgiven = cluster.forgiven
    return [
        *cluster.ledger.check(executions, events),
        *await _twice_ended(cluster),
        *await _too_many(cluster),
    ]


def _restart(hub: HubProcess) -> None:
    hub.stop()
    hub.start()


async def _gaps(cluster: Cluster) -> list[tuple[str, int]]:
    """Each of the many schedules: how far its events are from one for each second."""
    rows = await fetch(
        cluster.database,
        "SELECT flow, count(*), count(DISTINCT time), (max(time) - min(time)) / 1000000 + 1 FROM events"
        " WHERE namespace = 'many' GROUP BY flow",
    )
    return [(flow, abs(seconds - count) + abs(count - distinct)) for flow, count, distinct, seconds in rows]


async def _twice_ended(cluster: Cluster) -> list[str]:
    """Executions with two ends: a stale result was taken."""
    rows = await fetch(
        cluster.database,
        "SELECT item ->> 1, count(*) FROM changes, json_array_elements(items::json) AS item"
        f" WHERE item ->> 0 = 'execution' AND item ->> 2 IN {_ENDED} GROUP BY 1 HAVING count(*) > 1",
    )
    return [f"execution {row[0]} ended {row[1]} times" for row in rows]


async def _too_many(cluster: Cluster) -> list[str]:
    """Incarnations that nobody started: a hub that lived was taken for dead."""
    [(count,)] = await fetch(cluster.database, "SELECT count(*) FROM nodes")
    # each start begins one, and another when it takes over what its earlier ones had
    most = 2 * cluster.starts
    return [f"there were {count} incarnations, and {most} at most were started"] if count > most else []
