"""(h) The web server of (a) that also tells readers of a stream what it stored, as server-sent events."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time

import orjson
import uvloop
from aiohttp import web
from uuid_utils import uuid7

from bench.bare.store import Store


async def main(path: str) -> None:
    store, done, running = Store(path), [0], set()
    told: list[bytes] = []
    moved = asyncio.Condition()

    async def tell(*changes: tuple[str, str, str | None]) -> None:
        for topic, id, state in changes:
            data = orjson.dumps({"id": id, "state": state, "flow": "bench/one", "at": time.time()})
            told.append(b"event: %s\ndata: %s\n\nid: %d\n\n" % (topic.encode(), data, len(told)))
        async with moved:
            moved.notify_all()

    async def hook(request: web.Request) -> web.Response:
        body = await request.read()
        event, execution, now = str(uuid7()), str(uuid7()), time.time_ns() // 1000

        def accept(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO events (id, source, type, time, namespace, flow, trigger, depth, received_at,"
                       " data, verdicts) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '[]')",
                       (event, "/bench/one/hook", "received", now, "bench", "one", "hook", now, body.decode()))  # fmt: skip
            db.execute("INSERT INTO executions (id, namespace, flow, revision, state, trigger, event_id, inputs, labels,"
                       " created_at, claimed, fence) VALUES (?, ?, ?, 1, 'CREATED', ?, ?, '{}', '{}', ?, 1, 1)",
                       (execution, "bench", "one", "hook", event, now))  # fmt: skip

        await store.write(accept)
        await tell(("event", event, None), ("execution", execution, "CREATED"))
        job = asyncio.ensure_future(finish(execution))
        running.add(job)
        job.add_done_callback(running.discard)
        return web.Response(body=orjson.dumps({"eventId": event, "executionIds": [execution]}), status=202,
                            content_type="application/json")  # fmt: skip

    async def finish(execution: str) -> None:
        now = time.time_ns() // 1000

        def end(db: sqlite3.Connection) -> None:
            db.execute("UPDATE executions SET state = 'SUCCESS', started_at = ?, ended_at = ?, claimed = 0"
                       " WHERE id = ? AND fence = 1", (now, now, execution))  # fmt: skip

        await store.write(end)
        done[0] += 1
        await tell(("execution", execution, "SUCCESS"))

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        seen = len(told)
        while True:
            async with moved:
                while len(told) == seen:
                    await moved.wait()
            new, seen = told[seen:], len(told)
            await answer.write(b"".join(new))

    async def count(request: web.Request) -> web.Response:
        return web.json_response({"total": done[0]})

    application = web.Application()
    application.router.add_post("/hook", hook)
    application.router.add_get("/stream", stream)
    application.router.add_get("/count", count)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[2])).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


uvloop.run(main(sys.argv[1]))
