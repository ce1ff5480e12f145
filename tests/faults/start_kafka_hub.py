"""Start the hub with one bug patched into its reading of Kafka: ``python start_kafka_hub.py BUG serve …``.

The bugs are what the rounds must find. The hub itself holds no switch for any of them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

_WINDOW = 1.5
"""Seconds between the two steps that a kill is to fall between."""


def commit_before_the_row() -> None:
    """What was fetched is committed before it is stored, and the group's word counts as much as the storage's."""
    from plugins_core.kafka.lane import Lane

    store = Lane._store

    async def hasty(self: Any, pieces: Any) -> None:
        self.standing.next = pieces[-1].records[-1].offset + 1
        self._stored(self, 0, 0)
        await asyncio.sleep(_WINDOW)
        await store(self, pieces)

    Lane._store = hasty  # type: ignore[method-assign]


def auto_commit_on() -> None:
    """The client commits by itself what it has handed out."""
    import aiokafka

    make = aiokafka.AIOKafkaConsumer.__init__

    def careless(self: Any, *given: Any, **more: Any) -> None:
        more |= {"enable_auto_commit": True, "auto_commit_interval_ms": 50}
        make(self, *given, **more)

    aiokafka.AIOKafkaConsumer.__init__ = careless
    _slow_storage()


def _slow_storage() -> None:
    """As a disk under load: what was handed out is not stored for a while."""
    from plugins_core.sqlite.storage import SqliteStorage

    accept = SqliteStorage.accept

    async def slow(self: Any, arrivals: Any, **more: Any) -> Any:
        await asyncio.sleep(_WINDOW)
        return await accept(self, arrivals, **more)

    SqliteStorage.accept = slow  # type: ignore[method-assign]


def next_offset_not_checked() -> None:
    """Where a partition stands is what the group says; nothing is compared in the storage."""
    from dataclasses import replace

    from plugins_core.kafka.placing import Placing
    from plugins_core.kafka.reader import Reader
    from plugins_core.postgres import accepting as over_nodes
    from plugins_core.sqlite import accepting

    class AnyVersion(int):
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = int.__hash__

    class AnyVersions(dict[Any, int]):
        def __getitem__(self, key: Any) -> int:
            return AnyVersion(super().__getitem__(key))

    versions = over_nodes._locked_versions

    async def any_version(commit: Any, keys: Any) -> Any:
        return AnyVersions(await versions(commit, keys))

    async def again(self: Any, tp: Any, known: Any, log: Any, other: Any) -> Any:
        committed = await self._consumer.committed(tp)
        return replace(known, next=log.begin if committed is None else committed, hash=None, is_sure=True)

    commit = Reader._commit_now

    async def late(self: Any, consumer: Any) -> None:
        await asyncio.sleep(_WINDOW)
        await commit(self, consumer)

    Placing._again = again  # type: ignore[method-assign]
    Reader._commit_now = late  # type: ignore[method-assign]
    accepting._move_trigger = lambda connection, move: True
    over_nodes._locked_versions = any_version


def order_ignored() -> None:
    """Executions of one partition run side by side."""
    from hub.engine.verdicts import Judge

    one = Judge.one

    async def unordered(self: Any, candidate: Any, event: Any, now: Any, order: Any = None) -> Any:
        return await one(self, candidate, event, now, None)

    Judge.one = unordered  # type: ignore[method-assign]


BUGS = {
    "none": lambda: None,
    "commit-before-the-row": commit_before_the_row,
    "auto-commit-on": auto_commit_on,
    "next-offset-not-checked": next_offset_not_checked,
    "order-ignored": order_ignored,
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    from hub.cli import main

    main()
