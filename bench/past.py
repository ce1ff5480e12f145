"""(i) Past executions, through the storage plugin, or copied into PostgreSQL's tables: ``python -m bench.past FOLDER
COUNT [URL]``.

Half of them are of one namespace and one in twenty failed, but not there; a handful are of a namespace that
nothing else is of, a month ago. Half carry a label of their own.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from hub.clock import SystemClock, to_micros
from hub.model import jsontext
from hub.model.execution import ExecutionState, NewExecution
from hub.model.ids import FlowKey, new_id
from hub.plugin.storage import Arrival, Storage, StorageSettings, Transition
from hub.registry import load_plugins

BATCH = 1_000
COPIED = 50_000
COLUMNS = (
    *("seq", "id", "namespace", "flow", "revision", "state", "inputs", "labels", "outputs"),
    *("created_at", "started_at", "ended_at", "claimed", "fence"),
)
SPAN = timedelta(days=28)


def flow_of(number: int) -> FlowKey:
    if number < 30:
        return FlowKey("rare", "once")
    if number % 2:
        return FlowKey("busy", f"f{number % 10}")
    return FlowKey(f"n{number % 40}", f"f{number % 10}")


def end_of(number: int) -> ExecutionState:
    if number % 2 == 0 and number % 20 == 0:
        return ExecutionState.FAILED
    return ExecutionState.KILLED if number % 5_000 == 1 else ExecutionState.SUCCESS


def labels_of(number: int) -> dict[str, str]:
    return {"team": f"t{number % 7}", "order": str(number)} if number % 2 else {}


async def fill(storage: Storage, count: int) -> None:
    first = datetime.now(UTC) - SPAN
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        at = first + SPAN * (start / count)
        new = [
            NewExecution(new_id(), flow_of(n), 1, at, trigger=None, inputs={"n": n}, labels=labels_of(n))
            for n in numbers
        ]
        accepted = await storage.accept([Arrival(executions=(one,)) for one in new], at=at)
        claims = [claim for one in accepted for claim in one.claims]
        await asyncio.gather(
            *(
                storage.record(
                    Transition(
                        claim.execution.id, claim.fence, at, state=end_of(n), outputs={"n": n}, started_at=at
                    )
                )
                for n, claim in zip(numbers, claims, strict=True)
            )
        )


async def copy(url: str, count: int) -> None:
    """The same ones, straight into the tables: a million of them in seconds."""
    import asyncpg

    first = datetime.now(UTC) - SPAN
    connection = await asyncpg.connect(url)
    try:
        for start in range(0, count, COPIED):
            numbers = range(start, min(start + COPIED, count))
            await connection.copy_records_to_table(
                "executions",
                columns=COLUMNS,
                records=(row_of(n, first + SPAN * (n / count)) for n in numbers),
            )
            await connection.copy_records_to_table(
                "execution_labels",
                columns=("name", "value", "seq", "created_at"),
                records=(
                    (name, value, n + 1, to_micros(first + SPAN * (n / count)))
                    for n in numbers
                    for name, value in labels_of(n).items()
                ),
            )
        await connection.fetchval("SELECT setval(pg_get_serial_sequence('executions', 'seq'), $1)", count)
    finally:
        await connection.close()


def row_of(number: int, at: datetime) -> tuple[Any, ...]:
    flow, micros, data = flow_of(number), to_micros(at), jsontext.dumps({"n": number})
    state, labels = end_of(number).value, jsontext.dumps(labels_of(number))
    known = (number + 1, new_id(), flow.namespace, flow.id, 1, state, data, labels, data)
    return (*known, micros, micros, micros, 0, 1)


async def main(folder: Path, count: int, url: str) -> None:
    kind = load_plugins().storages[url.partition(":")[0]]
    settings = StorageSettings(url, folder, SystemClock())
    async with kind.open(settings) as storage:
        if not url.startswith("postgresql:"):
            await fill(storage, count)
    if url.startswith("postgresql:"):
        await copy(url, count)


given = sys.argv[3] if len(sys.argv) > 3 else f"sqlite:///{Path(sys.argv[1]) / 'hub.db'}"
uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), given))
