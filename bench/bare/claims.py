"""(q) A listener that claims what it is told of, and nothing else: ``python -m bench.bare.claims DSN COUNT``.

Prints when it held each, in nanoseconds of the monotonic clock, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import asyncpg
import uvloop

_CLAIM = (
    "UPDATE executions SET claimed = 1, fence = fence + 1 WHERE id IN (SELECT id FROM executions WHERE claimed = 0"
    " ORDER BY id LIMIT 200 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id"
)


async def main(dsn: str, count: int) -> None:
    listening, claiming = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await claiming.execute(
        "CREATE TABLE executions (id bigint PRIMARY KEY, claimed smallint NOT NULL, fence integer NOT NULL)"
    )
    told = asyncio.Event()

    def hear(*_: Any) -> None:
        told.set()

    await listening.add_listener("bare", hear)
    print("ready", flush=True)
    held: list[int] = []
    while len(held) < count:
        await told.wait()
        told.clear()
        async with claiming.transaction():
            found = await claiming.fetch(_CLAIM)
        held += [time.monotonic_ns()] * len(found)
    print(json.dumps(held), flush=True)


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
