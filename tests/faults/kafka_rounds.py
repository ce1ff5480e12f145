"""Rounds of kill -9 under a stream of records: the hub and the broker are killed at random moments and started again.

The ledger is the producer's: what the broker has acknowledged to it. At the end the hub's database is held against
it: each record is one event and one execution, and executions of one partition did not overlap, in its order.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.services.kafka import KafkaBroker
from tests.support.hub_process import HubProcess
from tests.support.topics import Topics

_FLOW = """id: work
namespace: faults
triggers:
  - {id: stream, type: kafka.messages, topic: records, group: faults, orderedBy: partition%s}
tasks:
  # the end of the first is waited for on the disk: of two side by side the second begins before the first ends
  - {id: read, type: return, value: "{{ trigger.offset }}"}
  - {id: done, type: return, value: "{{ outputs.read.value }}"}
"""
_BATCHES = ", batch: {maxMessages: %d, maxWait: PT0.1S}"
_PADDING = "x" * 4_000
"""Makes a file of each batch but the smallest."""
_START_SCRIPT = str(Path(__file__).with_name("start_kafka_hub.py"))
_SETTLED = 180.0
"""Seconds after the last kill until everything must have been taken and have ended."""


_PIECE = 200
_ONE_KILL = 2.5
"""Seconds that a kill takes, with the time before it."""


@dataclass(frozen=True)
class Plan:
    """How much happens."""

    records: int
    partitions: int
    hub_kills: int
    broker_kills: int = 0
    with_stranger: bool = False
    """Whether a foreign member joins and leaves the group every few seconds."""
    between: tuple[float, float] = (0.3, 2.5)
    """Seconds from a start to the next kill, at least and at most."""
    batches_of: int = 0
    """At most so many records together start an execution, where they do not start one each."""
    lasting: float = 0.0
    """Seconds over which the records are spread where the kills take less."""


@dataclass
class Ledger:
    """What the world outside the hub knows."""

    acknowledged: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By partition: the numbers that the broker has, in the order they were sent."""
    strangers: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of what a foreign member took and committed."""
    events: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(map(len, self.acknowledged.values()))


async def run_rounds(
    folder: Path, plan: Plan, *, bug: str = "none", seed: int | None = None, patience: float = _SETTLED
) -> Ledger:
    """Send, kill, restart; then let everything end and hold the hub's account against the ledger."""
    chance = random.Random(seed)
    ledger = Ledger()
    broker = KafkaBroker(folder / "broker")
    hub = HubProcess(_project(folder, broker, plan), start=(sys.executable, _START_SCRIPT, bug))
    await asyncio.to_thread(broker.start)
    try:
        async with Topics.at(broker.bootstrap) as topics:
            await topics.create(name="records", partitions=plan.partitions)
        await asyncio.to_thread(hub.start)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(broker, ledger, plan))
            stranger = tasks.create_task(_stranger(broker, ledger)) if plan.with_stranger else None
            await _kill(hub, broker, plan, ledger, chance)
            await sending
            if stranger is not None:
                stranger.cancel()
        await _settled(hub, ledger, patience)
        await asyncio.to_thread(hub.stop)
    finally:
        await asyncio.to_thread(_end, hub, broker)
    _account(hub.data, ledger)
    return ledger


def _project(folder: Path, broker: KafkaBroker, plan: Plan) -> Path:
    data = folder / "hub"
    (data / "flows").mkdir(parents=True)
    (data / "flows" / "work.hub.yaml").write_text(
        _FLOW % (_BATCHES % plan.batches_of if plan.batches_of else "")
    )
    properties = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
    cluster = {"bootstrapServers": broker.bootstrap, "properties": properties}
    settings = {"flows": ["flows"], "plugins": {"kafka": {"clusters": {"default": cluster}}}}
    (data / "hub.yaml").write_text(json.dumps(settings))
    return data


def _end(hub: HubProcess, broker: KafkaBroker) -> None:
    if hub.process is not None and hub.process.poll() is None:
        hub.kill()
    broker.stop()


# -- load and kills


async def _send(broker: KafkaBroker, ledger: Ledger, plan: Plan) -> None:
    """Number after number into the partitions in turn; an idempotent producer outlives the broker's kills."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=120_000
    )
    await producer.start()
    more = {"padding": _PADDING} if plan.batches_of else {}
    try:
        pieces = range(0, plan.records, _PIECE)
        pause = max((plan.hub_kills + plan.broker_kills) * _ONE_KILL, plan.lasting) / len(pieces)
        for first in pieces:
            futures = []
            for number in range(first, min(first + _PIECE, plan.records)):
                partition = number % plan.partitions
                value = json.dumps({"n": number, **more}).encode()
                futures.append(
                    (partition, number, await producer.send("records", value, partition=partition))
                )
            for partition, number, future in futures:
                await future
                ledger.acknowledged[partition].append(number)
            # spread over the kills
            await asyncio.sleep(pause)
    finally:
        await producer.stop()


async def _kill(
    hub: HubProcess, broker: KafkaBroker, plan: Plan, ledger: Ledger, chance: random.Random
) -> None:
    """Kills of both, mixed; as each begins, the records go on."""
    victims = ["hub"] * plan.hub_kills + ["broker"] * plan.broker_kills
    chance.shuffle(victims)
    for victim in victims:
        await asyncio.sleep(chance.uniform(*plan.between))
        if victim == "hub":
            hub.kill()
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(hub.start)
        else:
            broker.kill()
            await asyncio.sleep(chance.uniform(0, 1.0))
            await asyncio.to_thread(broker.start)


async def _stranger(broker: KafkaBroker, ledger: Ledger) -> None:
    """Join the hub's group, take what is given and commit it, leave; every three seconds."""
    while True:
        async with _member(broker) as consumer:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                found = await consumer.getmany(timeout_ms=300, max_records=50)
                if not found:
                    continue
                taken = {(tp.partition, one.offset) for tp, records in found.items() for one in records}
                try:
                    await consumer.commit({tp: records[-1].offset + 1 for tp, records in found.items()})
                except KafkaError:
                    continue  # it was taken out of the group meanwhile: nothing of it is its own
                ledger.strangers |= taken
        await asyncio.sleep(1.5)


@asynccontextmanager
async def _member(broker: KafkaBroker) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        "records",
        bootstrap_servers=broker.bootstrap,
        group_id="faults",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=1_500,
        heartbeat_interval_ms=300,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _settled(hub: HubProcess, ledger: Ledger, patience: float) -> None:
    """Return once as many records were taken as there are and all executions have ended, or out of patience."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        counts = await asyncio.to_thread(_counts, hub.data / "hub.db")
        if counts[0] + len(ledger.strangers) >= ledger.sent and counts[1] == 0:
            # a repeat would come now
            await asyncio.sleep(1.0)
            return
        await asyncio.sleep(0.25)


_TAKEN = "SELECT coalesce(sum(coalesce(data ->> '$.count', 1)), 0) FROM events"


def _counts(database: Path) -> tuple[int, int]:
    """How many records are events, and how many executions have not ended."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        events = connection.execute(_TAKEN).fetchone()[0]
        live = connection.execute("SELECT count(*) FROM executions WHERE ended_at IS NULL").fetchone()[0]
        return events, live
    finally:
        connection.close()


# -- the account


def _account(data_folder: Path, ledger: Ledger) -> None:
    """Hold the hub's database, and the files of its batches, against the ledger."""
    connection = sqlite3.connect(f"file:{data_folder / 'hub.db'}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT v.data, x.state, x.started_at, x.ended_at FROM events v"
            " LEFT JOIN executions x ON x.event_id = v.id ORDER BY v.seq, x.seq"
        ).fetchall()
        ledger.events = connection.execute(_TAKEN).fetchone()[0]
    finally:
        connection.close()
    found: dict[int, list[tuple[int, int, str | None, int, int]]] = defaultdict(list)
    for data, state, started, ended in rows:
        for record in _records(json.loads(data), data_folder):
            found[record["partition"]].append(
                (record["offset"], record["value"]["n"], state, started or 0, ended or 0)
            )
    for partition, numbers in ledger.acknowledged.items():
        ledger.wrong += _of_partition(partition, numbers, found[partition], ledger.strangers)


def _records(event: dict[str, Any], data_folder: Path) -> Iterable[dict[str, Any]]:
    """What an event holds: one record, or the batch that it lists or that lies in its file."""
    if "count" not in event:
        return [event]
    found = event["records"]
    if event["uri"] is not None:
        lines = (data_folder / "files" / event["uri"].removeprefix("hub:///")).read_bytes().splitlines()
        found = [json.loads(line) for line in lines]
    assert len(found) == event["count"]
    return list(found)


def _of_partition(
    partition: int,
    numbers: Sequence[int],
    rows: Sequence[tuple[int, int, str | None, int, int]],
    strangers: set[tuple[int, int]],
) -> list[str]:
    """Every promise that was broken in one partition."""
    wrong = []
    taken = [number for _, number, *_ in rows]
    twice = len(taken) - len(set(taken))
    if twice:
        wrong.append(f"partition {partition}: {twice} records were taken twice")
    theirs = {number for place, number in enumerate(numbers) if (partition, place) in strangers}
    lost = set(numbers) - set(taken) - theirs
    if lost:
        wrong.append(f"partition {partition}: {len(lost)} records are lost: {sorted(lost)[:5]}")
    unended = [state for _, _, state, *_ in rows if state != "SUCCESS"]
    if unended:
        wrong.append(
            f"partition {partition}: {len(unended)} records have no execution that succeeded: {set(unended)}"
        )
    if [offset for offset, *_ in rows] != sorted(offset for offset, *_ in rows):
        wrong.append(f"partition {partition}: its events are out of order")
    # records of one batch have one execution
    overlaps = sum(after[3:] != before[3:] and after[3] < before[4] for before, after in pairwise(rows))
    if overlaps:
        wrong.append(
            f"partition {partition}: {overlaps} executions began before the one before them had ended"
        )
    return wrong
