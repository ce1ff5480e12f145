"""(b, c) One commit after another, each awaited: the rows of N task runs in sequence, or N items C at a time."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time

import orjson
import uvloop
from uuid_utils import uuid7

from bench.bare.store import Store


async def main(path: str, count: int, side_by_side: int) -> None:
    store, execution = Store(path), str(uuid7())

    async def item(index: int) -> None:
        now = time.time_ns() // 1000

        def end(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs,"
                       " started_at, ended_at) VALUES (?, ?, 'answer', 'answer', 'return', 'SUCCESS', 1, ?, ?, ?)",
                       (execution, f"each[{index}]/", orjson.dumps({"value": index}).decode(), now, now))  # fmt: skip

        await store.write(end)

    places = iter(range(count))

    async def worker() -> None:
        for index in places:
            await item(index)

    await item(-1)
    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(side_by_side)))
    print(time.perf_counter() - began, flush=True)
    store.close()


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
