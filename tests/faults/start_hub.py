"""Start the hub with one bug patched in: ``python start_hub.py BUG serve …``; ``none`` patches nothing.

The bugs are what the kill -9 rounds must find. The hub itself holds no switch for any of them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins_core.sqlite.writer import OwnConnection


def answer_before_commit() -> None:
    """The webhook answers while the event only waits to be stored."""
    from hub.plugin import Accepted, Receipt
    from plugins_core.sqlite.storage import SqliteStorage

    store = SqliteStorage.accept
    later: set[Any] = set()

    async def accept(self: Any, arrivals: Any, **more: Any) -> Any:
        async def soon() -> None:
            await asyncio.sleep(0.15)
            await store(self, arrivals, **{**more, "room": 0})

        job = asyncio.ensure_future(soon())
        later.add(job)
        job.add_done_callback(later.discard)
        return [
            Accepted(
                Receipt(one.event.id if one.event else "", tuple(new.id for new in one.executions)),
                waiting=len(one.executions),
            )
            for one in arrivals
        ]

    SqliteStorage.accept = accept  # type: ignore[method-assign]


def completed_not_skipped() -> None:
    """Recovery runs completed tasks again."""
    from hub.engine import executor
    from hub.engine.task_runner import run_task as run

    async def run_task(self: Any, task: Any, scope: Any, stored: Any, **more: Any) -> Any:
        forgotten = stored is not None and stored.state.is_terminal
        return await run(self, task, scope, None if forgotten else stored, **more)

    executor.run_task = run_task  # type: ignore[attr-defined, assignment]


def unique_key_dropped() -> None:
    """The table of known deliveries has lost its unique key."""
    from plugins_core.sqlite import storage

    connect = storage._connect_for_writing

    def without_key(path: Any) -> OwnConnection:
        connection = connect(path)
        columns = "scope, key, body_hash, event_id, expires_at"
        connection.executescript(
            f"BEGIN; CREATE TABLE kept AS SELECT {columns} FROM delivery_keys; DROP TABLE delivery_keys;"
            f" CREATE TABLE delivery_keys (scope, key, body_hash, event_id, expires_at);"
            f" INSERT INTO delivery_keys SELECT {columns} FROM kept; DROP TABLE kept; COMMIT;"
        )
        return connection

    storage._connect_for_writing = without_key


def values_rendered_again() -> None:
    """A loop's values are rendered anew on recovery instead of read."""
    from hub.engine.task_runner import LiveRun

    load = LiveRun.load_decisions

    async def load_decisions(self: Any) -> None:
        await load(self)
        self.decisions.pop("$fields", None)

    LiveRun.load_decisions = load_decisions  # type: ignore[method-assign]


def subflow_of_another_id() -> None:
    """A subflow's id is not made from its path alone."""
    import random

    from hub.engine import task_context

    made = task_context.derived_id  # type: ignore[attr-defined]

    def derived_id(*parts: str) -> str:
        # a task run's own id is made of two parts
        id: str = made(*parts, str(random.random())) if len(parts) > 2 else made(*parts)
        return id

    task_context.derived_id = derived_id  # type: ignore[attr-defined]


def no_flush() -> None:
    """SQLite hands its writes to the system without flushing them."""
    from plugins_core.sqlite import storage

    connect = storage._connect_for_writing

    def unflushed(path: Any) -> OwnConnection:
        connection = connect(path)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    storage._connect_for_writing = unflushed


def batch_takes_nothing() -> None:
    """A batch is stored and what it holds waits on: for the first three times, then it is taken up."""
    from plugins_core.sqlite import accepting

    take_up = accepting._take_up
    times = iter(range(3))

    def forgetful(*given: Any) -> None:
        if next(times, None) is None:
            take_up(*given)

    accepting._take_up = forgetful  # type: ignore[assignment]


def notices_after_commit() -> None:
    """What a step owes is stored a little after the step itself."""
    from dataclasses import replace

    from hub.plugin import Arrival
    from plugins_core.sqlite.storage import SqliteStorage

    record = SqliteStorage.record
    later: set[Any] = set()

    async def parted(self: Any, transition: Any) -> Any:
        owed = [notice for arrival in transition.arrivals for notice in arrival.notices]
        bare = tuple(replace(arrival, notices=()) for arrival in transition.arrivals)
        recorded = await record(self, replace(transition, arrivals=bare))

        async def soon() -> None:
            await asyncio.sleep(1.5)
            await self.accept([Arrival(notices=tuple(owed))], at=transition.at)

        if owed:
            job = asyncio.ensure_future(soon())
            later.add(job)
            job.add_done_callback(later.discard)
        return recorded

    SqliteStorage.record = parted  # type: ignore[method-assign, assignment]


def settled_before_sent() -> None:
    """A notice counts as delivered before its mail has been handed over."""
    from hub.engine.notifications import Notifications
    from hub.plugin import NoticeState

    attempt = Notifications._attempt

    async def hasty(self: Any, claim: Any) -> Any:
        await self._services.storage.settle_notices([self._settlement(claim, NoticeState.DELIVERED)])
        await asyncio.sleep(0.1)
        return await attempt(self, claim)

    Notifications._attempt = hasty  # type: ignore[method-assign]


def notice_id_made_anew() -> None:
    """Each attempt has an id of its own."""
    import uuid
    from dataclasses import replace

    from hub.engine import notifications

    make = notifications.notification_of
    notifications.notification_of = lambda claim: replace(make(claim), id=str(uuid.uuid4()))


BUGS = {
    "none": lambda: None,
    "answer-before-commit": answer_before_commit,
    "completed-not-skipped": completed_not_skipped,
    "unique-key-dropped": unique_key_dropped,
    "values-rendered-again": values_rendered_again,
    "subflow-of-another-id": subflow_of_another_id,
    "no-flush": no_flush,
    "batch-takes-nothing": batch_takes_nothing,
    "notices-after-commit": notices_after_commit,
    "settled-before-sent": settled_before_sent,
    "notice-id-made-anew": notice_id_made_anew,
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    from hub.cli import main

    main()
