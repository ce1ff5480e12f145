"""(k) Kafka: a real broker, the hub and the client alone in one run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.rows import Options, Row
from bench.subjects import Hub, folder, hub, python

_FLOW = """id: each
namespace: bench
triggers:
  - {id: stream, type: kafka.messages, group: bench.%s, topic: %s%s}
tasks:
  - {id: answer, type: return, value: "%s"}
"""
_BATCHES = ", batch: {maxMessages: 500, maxWait: PT1S}"
_PADDING = "x" * 960
"""Makes a record about 1 KB."""
_PARTITIONS = 4
_PATIENCE = 600.0
_MOST_MIB = 250


def measure(options: Options, webhook_rate: float) -> list[Row]:
    """What is measured against the broker; the webhook's rate is of the same run."""
    from tests.services.kafka import KafkaBroker

    each, many, waiting = (3_000, 40_000, 100_000) if options.quick else (20_000, 200_000, 1_000_000)
    with folder() as data:
        broker = KafkaBroker(data / "broker", heap="512m")
        broker.start()
        try:
            asyncio.run(_fill(broker.bootstrap, "each", each))
            asyncio.run(_fill(broker.bootstrap, "many", many))
            rows = _one_each(options, broker.bootstrap, each, webhook_rate)
            rows += _batches(options, broker.bootstrap, many)
            rows += _idle(options, broker.bootstrap)
            asyncio.run(_fill(broker.bootstrap, "waiting", waiting))
            rows += _memory(options, broker.bootstrap, waiting)
        finally:
            broker.stop()
    return rows


def _one_each(options: Options, bootstrap: str, count: int, webhook_rate: float) -> list[Row]:
    ours, bare = [], []
    for _ in range(options.rounds):
        with folder() as data:
            bare.append(
                float(python("bench.bare.kafka", bootstrap, "each", str(count), str(data / "bare.db")))
            )
        ours.append(_rate(options, bootstrap, "each", "", "{{ trigger.value.n }}", count))
    rate, limit = statistics.median(ours), statistics.median(bare)
    return [
        Row("k", "executions/s, one per record", rate, limit, "/s", rate / limit),
        Row(
            "k", "the same beside webhooks", rate, webhook_rate, "/s", rate / webhook_rate, ">= 1.0", rate >= webhook_rate
        ),
    ]  # fmt: skip


def _batches(options: Options, bootstrap: str, count: int) -> list[Row]:
    ours, bare = [], []
    for _ in range(options.rounds):
        bare.append(float(python("bench.bare.kafka", bootstrap, "many", str(count))))
        ours.append(_rate(options, bootstrap, "many", _BATCHES, "{{ trigger.count }}", count, per=500))
    rate, limit = statistics.median(ours), statistics.median(bare)
    return [
        Row("k", "records/s, batches of 500", rate, limit, "/s", rate / limit, ">= 0.5", rate >= limit / 2)
    ]


def _rate(
    options: Options, bootstrap: str, topic: str, more: str, value: str, count: int, *, per: int = 1
) -> float:
    """Records per second, from the first event to the last end."""
    with _running(options, bootstrap, topic, more, value) as (_, data):
        _ended(data, count // per)
        [first, last] = _query(data, "SELECT min(created_at), max(ended_at) FROM executions")[0]
    return count / ((last - first) / 1e6)


def _idle(options: Options, bootstrap: str) -> list[Row]:
    """From the moment before the append until the end of its execution is on the disk."""
    appends = 100 if options.quick else 500
    asyncio.run(_fill(bootstrap, "idle", 0))
    with _running(options, bootstrap, "idle", "", "{{ trigger.value.at }}") as (_, data):
        asyncio.run(_append(bootstrap, "idle", appends, data))
        found = _query(
            data,
            "SELECT v.data ->> '$.value.at', x.ended_at FROM executions x JOIN events v ON v.id = x.event_id ORDER BY x.seq",
        )
    took = sorted((ended * 1000 - int(at)) / 1e6 for at, ended in found[10:])  # the first ones warm up
    half, slow = took[len(took) // 2], took[int(len(took) * 0.99)]
    return [
        Row("k", "append to SUCCESS, p50", half, None, "ms", None, "< 10 ms", half < 10),
        Row("k", "append to SUCCESS, p99", slow, None, "ms"),
    ]


def _memory(options: Options, bootstrap: str, count: int) -> list[Row]:
    """The most it takes in twenty seconds of reading, while far more wait than it gets through."""
    one = _most_memory(options, bootstrap, "", "{{ trigger.value.n }}")
    many = _most_memory(options, bootstrap, _BATCHES, "{{ trigger.count }}")
    aim = f"< {_MOST_MIB} MiB"
    waiting = f"memory, {count:,} records wait"
    return [
        Row("k", waiting, one, None, "MiB", None, aim, one < _MOST_MIB),
        Row("k", f"{waiting}, batches", many, None, "MiB", None, aim, many < _MOST_MIB),
    ]


def _most_memory(options: Options, bootstrap: str, more: str, value: str) -> float:
    with _running(options, bootstrap, "waiting", more, value) as (running, data):
        _ended(data, 1)
        time.sleep(5 if options.quick else 20)
        return running.memory_mib("VmHWM")


@contextmanager
def _running(
    options: Options, bootstrap: str, topic: str, more: str, value: str
) -> Iterator[tuple[Hub, Path]]:
    with folder() as data:
        (data / "flows").mkdir()
        # a group of its own: one that has read the topic goes on behind all of it
        (data / "flows" / "each.hub.yaml").write_text(_FLOW % (uuid4().hex, topic, more, value))
        clusters = {"default": {"bootstrapServers": bootstrap}}
        (data / "hub.yaml").write_text(json.dumps({"plugins": {"kafka": {"clusters": clusters}}}))
        with hub(data, data / "flows", options.command) as running:
            yield running, data


def _query(data: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{data / 'hub.db'}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _ended(data: Path, count: int) -> None:
    """Return once so many executions have ended."""
    until = time.monotonic() + _PATIENCE
    while _query(data, "SELECT count(*) FROM executions WHERE ended_at IS NOT NULL")[0][0] < count:
        if time.monotonic() > until:
            raise SystemExit(f"{count} executions have not ended in {_PATIENCE:.0f} s")
        time.sleep(0.2)


# -- the broker's side


async def _fill(bootstrap: str, topic: str, count: int) -> None:
    """A topic with so many records of 1 KB."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, _PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=5, max_batch_size=256 << 10
    )
    await producer.start()
    for first in range(0, count, 5_000):
        futures: Sequence[Any] = [
            await producer.send(topic, _record({"n": number}), partition=number // 500 % _PARTITIONS)
            for number in range(first, min(first + 5_000, count))
        ]
        await asyncio.gather(*futures)
    await producer.stop()


async def _append(bootstrap: str, topic: str, count: int, data: Path) -> None:
    """One record after another, each when the one before it has long been done."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    for number in range(count):
        await producer.send_and_wait(topic, _record({"n": number, "at": time.time_ns()}))
        await asyncio.sleep(0.03)
    await producer.stop()
    await asyncio.to_thread(_ended, data, count)


def _record(value: dict[str, Any]) -> bytes:
    return json.dumps({**value, "padding": _PADDING}).encode()
