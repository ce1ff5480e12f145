"""(k) Read a topic with the client alone: only parsed, or with the same durable writes that an execution needs.

``python -m bench.bare.kafka BOOTSTRAP TOPIC COUNT [DATABASE]`` prints records per second, from the first one on.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer
from uuid_utils import uuid7

from bench.bare.store import Change, Store


async def main(bootstrap: str, topic: str, count: int, database: str | None) -> None:
    store = Store(database) if database is not None else None
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"bare-{uuid7()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 << 20,
        fetch_max_bytes=16 << 20,
    )
    await consumer.start()
    began, seen = 0.0, 0
    while seen < count:
        found = await consumer.getmany(timeout_ms=1000, max_records=500)
        began = began or time.perf_counter()
        for records in found.values():
            data = [(record, orjson.loads(record.value)) for record in records]
            if store is not None:
                await _stored(store, data)
            seen += len(records)
        if store is not None:
            await consumer.commit()
    print(seen / (time.perf_counter() - began))
    await consumer.stop()


async def _stored(store: Store, data: list[Any]) -> None:
    """An event and an execution for each record, and then the end of each: two flushes."""
    now = time.time_ns() // 1000
    ids = [(str(uuid7()), str(uuid7())) for _ in data]

    def accept(db: sqlite3.Connection) -> list[Change]:
        changes: list[Change] = []
        for (event, execution), (record, value) in zip(ids, data, strict=True):
            text = orjson.dumps({"key": None, "value": value, "headers": {}, "topic": record.topic,
                                 "partition": record.partition, "offset": record.offset}).decode()  # fmt: skip
            db.execute("INSERT INTO events (id, source, type, time, namespace, flow, trigger, depth, received_at,"
                       " data, verdicts) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '[]')",
                       (event, "/bench/each/stream", "received", now, "bench", "each", "stream", now, text))  # fmt: skip
            db.execute("INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs, labels,"
                       " created_at, claimed, fence) VALUES (?, ?, ?, 1, 'CREATED', ?, ?, '{}', '{}', ?, 1, 1)",
                       (execution, "bench", "each", "stream", event, now))  # fmt: skip
            changes += [("event", event, None), ("execution", execution, "CREATED")]
        return changes

    def end(db: sqlite3.Connection) -> list[Change]:
        changes: list[Change] = []
        for (_, execution), (_, value) in zip(ids, data, strict=True):
            db.execute("INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs,"
                       " started_at, ended_at) VALUES (?, '', 'answer', 'answer', 'return', 'SUCCESS', 1, ?, ?, ?)",
                       (execution, orjson.dumps({"value": value["n"]}).decode(), now, now))  # fmt: skip
            db.execute("UPDATE executions SET state = 'SUCCESS', started_at = ?, ended_at = ?, claimed = 0"
                       " WHERE id = ? AND fence = 1", (now, now, execution))  # fmt: skip
            changes.append(("execution", execution, "SUCCESS"))
        return changes

    await store.write(accept)
    await store.write(end)


uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None))
