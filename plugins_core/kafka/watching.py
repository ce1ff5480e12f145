"""Watch the reading of a trigger: whether the cluster answers, how much waits, whether the topics are the same.

The reader tells it what was stored; what it finds is shown in lists and metrics, and logged where it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from hub.plugin import HubError, SourceStatus, TriggerContext
from plugins_core.kafka.client import Unreachable, reason, topics_of
from plugins_core.kafka.lane import Lane
from plugins_core.kafka.settings import Connection

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from plugins_core.kafka.trigger import Messages

_EVERY = 1.0
"""Seconds between two looks at how far the topics are."""
_PATIENCE = 5.0
"""Seconds that an answer of the cluster may take."""


class Watch:
    """How a trigger does; outlives the sessions of its reader, so that what it counts goes on."""

    def __init__(
        self,
        trigger: Messages,
        connection: Connection,
        ctx: TriggerContext,
        lanes: Mapping[TopicPartition, Lane],
    ) -> None:
        self._trigger = trigger
        self._connection = connection
        self._ctx = ctx
        self._lanes = lanes
        """The reader's own: those that are read now."""
        self._ends: dict[TopicPartition, int] = {}
        self._taken = 0
        self._dead = 0
        self._committed_at: datetime | None = None
        self._error: str | None = None

    def stored(self, count: int, dead: int) -> None:
        """So many records are durable, so many of them as dead letters."""
        self._taken += count
        self._dead += dead

    def committed(self) -> None:
        """Kafka was told what is stored."""
        self._committed_at = self._ctx.now()

    def forget(self) -> None:
        """The partitions have been given back."""
        self._ends.clear()

    async def failed(self, error: BaseException) -> None:
        """A session is over: find out why, and show it."""
        if isinstance(error, HubError):
            said = error.message
        else:
            said = await reason(self._connection) or f"{self._connection.text}: {shown(error)}"
        self._show(said)

    async def run(
        self, consumer: AIOKafkaConsumer, place_again: Callable[[TopicPartition, Lane], None]
    ) -> None:
        """Look now and then, until cancelled; a partition whose log has shrunk is to be placed again."""
        while True:
            self._show(await self._look(consumer, place_again))
            await asyncio.sleep(_EVERY)

    async def _look(
        self, consumer: AIOKafkaConsumer, place_again: Callable[[TopicPartition, Lane], None]
    ) -> str | None:
        """What is wrong, None where nothing is."""
        from aiokafka.errors import KafkaError

        lanes = dict(self._lanes)
        before = {tp: lane.standing.next for tp, lane in lanes.items()}
        missing = await self._missing(consumer)
        if missing is not None or not lanes:
            return missing
        try:
            async with asyncio.timeout(_PATIENCE):
                ends = await consumer.end_offsets(list(lanes))
        except (KafkaError, TimeoutError) as error:
            if dict(self._lanes) != lanes:
                return None  # the group gives its partitions out anew
            why = await reason(self._connection)
            return why or f"{self._connection.text}: {names_of(lanes)}: {shown(error)}"
        for tp, end in ends.items():
            lane = lanes[tp]
            # one that shrank and still reaches beyond what was read may be another topic: its records tell
            has_shrunk = end < before[tp] or end < self._ends.get(tp, 0)
            is_read = self._lanes.get(tp) is lane
            if has_shrunk and is_read and lane.wants_more:
                place_again(tp, lane)
            self._ends[tp] = end
        return None

    async def _missing(self, consumer: AIOKafkaConsumer) -> str | None:
        """Which of the named topics does not exist, where the cluster can be asked."""
        names = [one for one in self._trigger.names if not consumer.partitions_for_topic(one)]
        if not names:
            return None
        try:
            # what the client has heard of may be old, at its start for one
            there = await topics_of(self._connection)
        except Unreachable as error:
            return error.message
        names = [name for name in names if name not in there]
        if not names:
            return None
        topics = f'topic "{names[0]}" does' if len(names) == 1 else f"topics {', '.join(names)} do"
        return f"{self._connection.text}: {topics} not exist; it is read as soon as it is created"

    def _show(self, error: str | None) -> None:
        if error is not None and "topic" not in error:
            names = ", ".join(self._trigger.names) or self._trigger.topic_pattern
            error = f"{error} (topic {names})"
        if error != self._error:
            if error is not None:
                self._ctx.log("warning", "kafka cannot be read; trying again", error=error)
            else:
                self._ctx.log("info", "kafka is read again", cluster=self._connection.name)
            self._error = error
        lags = {}
        for tp, lane in sorted(self._lanes.items()):
            end = self._ends.get(tp)
            lags[lane.part] = None if end is None else max(end - lane.standing.next, 0)
        waiting = next((lane.error for lane in self._lanes.values() if lane.error is not None), None)
        self._ctx.report(
            SourceStatus(lags, self._taken, self._dead, self._committed_at, self._error or waiting)
        )


def names_of(partitions: Iterable[TopicPartition]) -> str:
    """The topics of some partitions, for a message."""
    return "topic " + ", ".join(sorted({tp.topic for tp in partitions}))


def shown(error: BaseException) -> str:
    """An error of the client's in a message."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
