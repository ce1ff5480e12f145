"""Start one of several hubs with one bug patched in: ``python start_node.py BUG serve …``; ``none`` patches nothing.

``HUB_TEST_CLOCK_OFF`` moves the machine's wall clock, as this process sees it, by so many seconds.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

from tests.faults.start_hub import completed_not_skipped


def move_the_wall_clock(seconds: float) -> None:
    """The machine's clock is wrong by this much."""
    from hub.clock import SystemClock

    shown, now = time.time, SystemClock.now
    time.time = lambda: shown() + seconds
    SystemClock.now = lambda self: now(self) + timedelta(seconds=seconds)  # type: ignore[method-assign]


def fence_not_checked() -> None:
    """A step is stored whoever holds the execution by now, and who has lost it goes on."""
    from hub.engine.dispatcher import Dispatcher
    from plugins_core.postgres import recording

    class Any_(int):
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = int.__hash__

    find = recording._locked

    async def lax(connection: Any, ids: set[str]) -> Any:
        rows = await find(connection, ids)
        for row in rows.values():
            row.fence, row.claimed = Any_(row.fence), True
        return rows

    recording._locked = lax
    Dispatcher.lose_all = lambda self: None  # type: ignore[method-assign]
    recording._UPDATE_EXECUTIONS = recording._UPDATE_EXECUTIONS.replace(
        " AND e.fence = v.fence AND e.claimed = 1", ""
    )


def lease_by_local_clock() -> None:
    """Whether a lease has run out is asked of the machine's own clock."""
    from plugins_core.postgres import leases, membership

    async def recover(connection: Any, own: int) -> int:
        now = int(time.time() * 1e6)
        rows = await connection.fetch(
            "SELECT number FROM nodes WHERE ended_at IS NULL AND lease_expires_at < $1 AND number <> $2",
            now,
            own,
        )
        return sum([await membership.end_node(connection, row[0]) or 0 for row in rows])

    leases.recover = recover


def unique_key_dropped() -> None:
    """The table of known deliveries has lost its unique key."""
    from plugins_core.postgres import deliveries, opening

    migrate = opening.migrate  # type: ignore[attr-defined]

    async def without_key(connection: Any, address: Any) -> Any:
        done = await migrate(connection, address)
        await connection.execute("ALTER TABLE delivery_keys DROP CONSTRAINT IF EXISTS delivery_keys_pkey")
        return done

    opening.migrate = without_key  # type: ignore[attr-defined]
    head, _, tail = deliveries._ADD.partition(" ON CONFLICT")
    deliveries._ADD = head + " RETURNING scope, key, $6::bigint"
    assert tail


BUGS = {
    "none": lambda: None,
    "fence-not-checked": fence_not_checked,
    "lease-by-local-clock": lease_by_local_clock,
    "unique-key-dropped": unique_key_dropped,
    "completed-not-skipped": completed_not_skipped,
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    off = float(os.environ.get("HUB_TEST_CLOCK_OFF", "0"))
    if off:
        move_the_wall_clock(off)
    from hub.cli import main

    main()
