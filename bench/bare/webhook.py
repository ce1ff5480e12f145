"""(a) A web server that stores an event with its execution, answers, and stores the end: two awaited commits."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time

import orjson
import uvloop
from aiohttp import web
from uuid_utils import uuid7

from bench.bare.store import Change, Store


async def main(path: str) -> None:
    store, done, running = Store(path), [0], set()

    async def hook(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        data = orjson.dumps(
            {
                "body": body,
                "headers": {str(k): v for k, v in request.headers.items()},
                "parameters": {},
                "method": "POST",
            }
        )
        event, execution, now = str(uuid7()), str(uuid7()), time.time_ns() // 1000

        def accept(db: sqlite3.Connection) -> list[Change]:
            db.execute("INSERT INTO events (id, source, type, time, namespace, flow, trigger, depth, received_at,"
                       " data, verdicts) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '[]')",
                       (event, "/bench/one/hook", "received", now, "bench", "one", "hook", now, data.decode()))  # fmt: skip
            db.execute("INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs, labels,"
                       " created_at, claimed, fence) VALUES (?, ?, ?, 1, 'CREATED', ?, ?, '{}', '{}', ?, 1, 1)",
                       (execution, "bench", "one", "hook", event, now))  # fmt: skip
            return [("event", event, None), ("execution", execution, "CREATED")]

        await store.write(accept)
        job = asyncio.ensure_future(finish(execution, body["n"]))
        running.add(job)
        job.add_done_callback(running.discard)
        return web.Response(body=orjson.dumps({"eventId": event, "executionIds": [execution]}), status=202,
                            content_type="application/json")  # fmt: skip

    async def finish(execution: str, n: int) -> None:
        now = time.time_ns() // 1000

        def end(db: sqlite3.Connection) -> list[Change]:
            db.execute("INSERT INTO task_runs (execution_id, scope, name, task, type, state, attempts, outputs,"
                       " started_at, ended_at) VALUES (?, '', 'answer', 'answer', 'return', 'SUCCESS', 1, ?, ?, ?)",
                       (execution, orjson.dumps({"value": n}).decode(), now, now))  # fmt: skip
            db.execute("UPDATE executions SET state = 'SUCCESS', started_at = ?, ended_at = ?, claimed = 0"
                       " WHERE id = ? AND fence = 1", (now, now, execution))  # fmt: skip
            return [("execution", execution, "SUCCESS")]

        await store.write(end)
        done[0] += 1

    async def count(request: web.Request) -> web.Response:
        return web.json_response({"total": done[0]})

    application = web.Application()
    application.router.add_post("/hook", hook)
    application.router.add_get("/count", count)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[2])).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


uvloop.run(main(sys.argv[1]))
