"""A topic in which one record of a hundred cannot be read: each is a dead letter, and its partition goes on."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.services.kafka import KafkaBroker
from tests.support.hub_process import HubProcess, hub_command
from tests.support.topics import Topics

_FLOW = """id: work
namespace: faults
triggers:
  - {id: stream, type: kafka.messages, topic: records, maxRecordBytes: 2000, when: "{{ trigger.value.n >= 0 }}"}
tasks:
  - {id: done, type: return, value: "{{ trigger.value.n }}"}
"""
_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("its value is not JSON", {"value": b'{"n": "\xff"}'}),
    ("its value is not JSON: unexpected end", {"value": b'{"n": 1'}),
    ("maxRecordBytes", {"value": b'"' + b"x" * 3000 + b'"'}),
    ("its header", {"value": b'{"n": 1}', "headers": [("h", b"\xff")]}),
    ("is missing", {"value": b'{"m": 1}'}),
)
_PARTITIONS = 4
_LONGEST_WAIT = 1.0
_PATIENCE = 180.0


async def run_poison(folder: Path, *, records: int) -> None:
    """Send, let the hub take everything, and look at what became of each record."""
    broker = KafkaBroker(folder / "broker")
    data = folder / "hub"
    (data / "flows").mkdir(parents=True)
    (data / "flows" / "work.hub.yaml").write_text(_FLOW)
    clusters = {"default": {"bootstrapServers": broker.bootstrap}}
    (data / "hub.yaml").write_text(
        json.dumps({"flows": ["flows"], "plugins": {"kafka": {"clusters": clusters}}})
    )
    await asyncio.to_thread(broker.start)
    hub = HubProcess(data)
    try:
        poison = await _fill(broker, records)
        await asyncio.to_thread(hub.start)
        await _taken(data / "hub.db", records)
        await asyncio.to_thread(_replay_one, data)
    finally:
        await asyncio.to_thread(hub.stop)
        await asyncio.to_thread(broker.stop)
    _account(data / "hub.db", poison, records)


async def _fill(broker: KafkaBroker, records: int) -> dict[tuple[int, int], int]:
    """The kind of poison by partition and offset."""
    chance = random.Random(1)
    poison: dict[tuple[int, int], int] = {}
    async with Topics.at(broker.bootstrap) as topics:
        await topics.create(name="records", partitions=_PARTITIONS)
        futures = []
        for number in range(records):
            kind = number // 100 % len(_KINDS) if number % 100 == 50 else None
            given = {"value": json.dumps({"n": number}).encode()} if kind is None else _KINDS[kind][1]
            partition = chance.randrange(_PARTITIONS)
            futures.append((kind, await topics.producer.send("records", partition=partition, **given)))
        for kind, future in futures:
            found = await future
            if kind is not None:
                poison[found.partition, found.offset] = kind
    return poison


async def _taken(database: Path, records: int) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            [count] = connection.execute("SELECT count(*) FROM events").fetchone()
            [live] = connection.execute("SELECT count(*) FROM executions WHERE ended_at IS NULL").fetchone()
        if count >= records and not live:
            return
        await asyncio.sleep(0.2)  # a database tells nobody
    raise AssertionError(f"{count} of {records} records were taken, {live} executions have not ended")


def _replay_one(data: Path) -> None:
    """A repaired record runs."""
    name = hub_command("events", "dead", "list", "--limit", "1", "-o", "name", cwd=data).stdout.strip()
    done = hub_command(
        "events", "dead", "replay", name, "--with", '{"value": {"n": -0}, "headers": {}}', cwd=data
    )
    assert "started" in done.stdout, done.stdout + done.stderr


def _account(database: Path, poison: dict[tuple[int, int], int], records: int) -> None:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT data, dead, received_at, replay_of, (SELECT count(*) FROM executions x WHERE x.event_id = v.id)"
            " FROM events v ORDER BY seq"
        ).fetchall()
    replays = {row[3] for row in rows if row[3] is not None}
    assert len(replays) == 1
    first = [
        (*_place(data), dead, received, started)
        for data, dead, received, replay, started in rows
        if replay is None
    ]
    assert len(first) == records
    assert len({(partition, offset) for partition, offset, *_ in first}) == records
    dead = {(partition, offset): reason for partition, offset, reason, _, started in first if not started}
    assert dead.keys() == poison.keys()
    # the one that was replayed is no dead letter any more
    for place, reason in dead.items():
        assert reason is None or _KINDS[poison[place]][0] in reason, (place, reason)
    assert sum(reason is None for reason in dead.values()) == 1
    assert set(Counter(poison.values())) == set(range(len(_KINDS)))
    at_poison, elsewhere = _longest_waits(
        [(partition, offset, received) for partition, offset, _, received, _ in first], poison
    )
    print(
        f"kafka poison: {records} records, {len(poison)} of them poison; longest wait of a partition {at_poison:.3f} s"
        f" beside poison, {elsewhere:.3f} s elsewhere"
    )
    # a machine that is busy with other things is slow everywhere
    assert at_poison <= max(_LONGEST_WAIT, elsewhere)


def _longest_waits(
    found: Sequence[tuple[int, int, int]], poison: Collection[tuple[int, int]]
) -> tuple[float, float]:
    """The longest time between two neighbours of a partition, in seconds: where one is poison, and where none is."""
    longest = {True: 0, False: 0}
    for (partition, offset, received), (other, beside, later) in pairwise(sorted(found)):
        if partition == other:
            is_poison = (partition, offset) in poison or (partition, beside) in poison
            longest[is_poison] = max(longest[is_poison], later - received)
    return longest[True] / 1e6, longest[False] / 1e6


def _place(data: str) -> tuple[int, int]:
    """A large one is in a file; its place is only known there."""
    found = json.loads(data)
    return found["partition"], found["offset"]
