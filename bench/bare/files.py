"""(f) Files that are dropped become rows and are put away: look, hash, store in batches, rename, store the end, rename.

Says "ready" and goes on until it is ended; nothing is kept in mind over a crash, and no file is asked about twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import sys
import time

import orjson
import uvloop
from uuid_utils import uuid7

from bench.bare.store import Store

BATCH = 200


def look(inbox: str, names: list[str]) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    for name in names:
        with open(f"{inbox}/{name}", "rb") as file:
            about, digest = os.fstat(file.fileno()), hashlib.sha256(file.read()).hexdigest()
        found.append((name, {"path": f"{inbox}/claimed/{name}", "name": name, "source": f"{inbox}/{name}",
                             "size": about.st_size, "modifiedAt": about.st_mtime, "sha256": digest,
                             "mark": f"{about.st_ino}:{about.st_mtime_ns}"}))  # fmt: skip
    return found


def move(source: str, target: str, names: list[str]) -> None:
    for name in names:
        os.rename(f"{source}/{name}", f"{target}/{name}")


async def main(folder: str) -> None:
    store, inbox = Store(f"{folder}/bare.db"), f"{folder}/inbox"
    for name in ("inbox/claimed", "done"):
        os.makedirs(f"{folder}/{name}")
    print("ready", flush=True)
    running: set[asyncio.Future[None]] = set()

    async def take(found: list[tuple[str, dict[str, object]]]) -> None:
        now = time.time_ns() // 1000
        rows = [(str(uuid7()), str(uuid7()), name, orjson.dumps(data).decode()) for name, data in found]

        def accept(db: sqlite3.Connection) -> None:
            db.executemany("INSERT INTO events (id, source, type, time, subject, namespace, flow, trigger, depth,"
                           " received_at, data, verdicts) VALUES (?, '/b/one/drop', 'arrived', ?, ?, 'b', 'one', 'drop',"
                           " 0, ?, ?, '[]')", [(event, now, name, now, data) for event, _, name, data in rows])  # fmt: skip
            db.executemany("INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs,"
                           " labels, created_at, claimed, fence) VALUES (?, 'b', 'one', 1, 'CREATED', 'drop', ?, '{}',"
                           " '{}', ?, 1, 1)", [(execution, event, now) for event, execution, _, _ in rows])  # fmt: skip

        await store.write(accept)
        names = [name for name, _ in found]
        await asyncio.to_thread(move, inbox, f"{inbox}/claimed", names)
        await asyncio.gather(*(finish(execution) for _, execution, _, _ in rows))
        await asyncio.to_thread(move, f"{inbox}/claimed", f"{folder}/done", names)

    async def finish(execution: str) -> None:
        now = time.time_ns() // 1000

        def end(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs,"
                       " started_at, ended_at) VALUES (?, '', 'answer', 'answer', 'return', 'SUCCESS', 1, ?, ?, ?)",
                       (execution, '{"value":1}', now, now))  # fmt: skip
            db.execute("UPDATE executions SET state = 'SUCCESS', started_at = ?, ended_at = ?, claimed = 0"
                       " WHERE id = ? AND fence = 1", (now, now, execution))  # fmt: skip

        await store.write(end)

    while True:
        names = [entry.name for entry in os.scandir(inbox) if entry.is_file(follow_symlinks=False)]
        for start in range(0, len(names), BATCH):
            found = await asyncio.to_thread(look, inbox, names[start : start + BATCH])
            job = asyncio.ensure_future(take(found))
            running.add(job)
            job.add_done_callback(running.discard)
        await asyncio.gather(*running)
        await asyncio.sleep(0.001)


uvloop.run(main(sys.argv[1]))
