"""(g) Timers that each store an event with its execution at a planned moment, and then the end: nothing else.

``python -m bench.bare.timers PATH COUNT SECONDS together|spread`` prints how late each event was durable, in ms.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time

import orjson
import uvloop
from uuid_utils import uuid7

from bench.bare.store import Store


async def main(path: str, count: int, seconds: int, manner: str) -> None:
    store, late = Store(path), list[float]()
    # none before all of them wait
    begins = int(time.time()) + 2

    async def one(number: int) -> None:
        offset = number / count if manner == "spread" else 0.0
        for second in range(seconds):
            planned = begins + second + offset
            await asyncio.sleep(planned - time.time())
            await fire(number, planned)

    async def fire(number: int, planned: float) -> None:
        event, execution, now = str(uuid7()), str(uuid7()), time.time_ns() // 1000
        data = orjson.dumps({"date": planned, "previous": planned - 1, "next": planned + 1}).decode()

        def accept(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO events (id, source, type, time, namespace, flow, trigger, depth, received_at,"
                       " data, verdicts) VALUES (?, ?, 'fired', ?, 'bench', ?, 'tick', 0, ?, ?, '[]')",
                       (event, f"/bench/f{number}/tick", now, f"f{number}", now, data))  # fmt: skip
            db.execute("INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs,"
                       " labels, created_at, claimed, fence) VALUES (?, 'bench', ?, 1, 'CREATED', 'tick', ?, '{}',"
                       " '{}', ?, 1, 1)", (execution, f"f{number}", event, now))  # fmt: skip

        await store.write(accept)
        late.append((time.time() - planned) * 1000)

        def end(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs,"
                       " started_at, ended_at) VALUES (?, '', 'answer', 'answer', 'return', 'SUCCESS', 1, ?, ?, ?)",
                       (execution, '{"value":1}', now, now))  # fmt: skip
            db.execute("UPDATE executions SET state = 'SUCCESS', started_at = ?, ended_at = ?, claimed = 0"
                       " WHERE id = ? AND fence = 1", (now, now, execution))  # fmt: skip

        await store.write(end)

    await asyncio.gather(*(one(number) for number in range(count)))
    store.close()
    print(orjson.dumps(sorted(late)).decode(), flush=True)


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
