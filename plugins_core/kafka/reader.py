"""Read topics for one trigger: join the group, place the partitions, fill their lanes, commit what is stored.

The trigger calls ``read_for_ever``. A session lasts until something fails; then the reason is found out, reported,
and another one begins after a short pause. Nothing is acknowledged to Kafka before the storage has it: the next
offset that counts is the one in the storage, moved in one transaction with the events.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hub.plugin import Emit, FenceRefused, HubError, SourceStatus, StorageError, TriggerContext
from plugins_core.kafka.client import Unreachable, reason, topics_of
from plugins_core.kafka.lane import Lane, Moved
from plugins_core.kafka.placing import Placing, part_of
from plugins_core.kafka.producer import ToSend, shared_producer
from plugins_core.kafka.quiet import quieten
from plugins_core.kafka.settings import Connection
from plugins_core.kafka.standing import Recreated

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from plugins_core.kafka.trigger import Messages

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach a cluster: it is used again within ten seconds of its return."""
_POLL = 500
"""Milliseconds that one look for records may wait."""
_STUCK_AFTER = 1.0
"""Seconds after which a partition that takes nothing is paused: until then what was fetched for it stays here."""
_MOST_RECORDS = 1_000
_WATCH = 1.0
"""Seconds between two looks at how far the topics are."""
_PATIENCE = 5.0
"""Seconds that an answer of the cluster may take, and that a partition may take to be left."""


async def read_for_ever(trigger: Messages, connection: Connection, ctx: TriggerContext, emit: Emit) -> None:
    """Read until cancelled."""
    reader = Reader(trigger, connection, ctx, emit)
    pause = _FIRST_PAUSE
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await reader.session()
        except* (HubError, OSError, TimeoutError) as group:
            await reader.failed(group)
        except* Exception as group:
            if not _is_of_client(group):
                raise
            await reader.failed(group)
        if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE * 2:
            pause = _FIRST_PAUSE
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _is_of_client(group: BaseExceptionGroup[BaseException]) -> bool:
    """Whether all that went wrong went wrong at the cluster."""
    from aiokafka.errors import KafkaError

    return all(isinstance(one, KafkaError) for one in _leaves(group))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


class Reader:
    """Reads for one trigger; outlives its sessions, so that what it reports goes on counting."""

    def __init__(self, trigger: Messages, connection: Connection, ctx: TriggerContext, emit: Emit) -> None:
        self._trigger = trigger
        self._connection = connection
        self._ctx = ctx
        self._emit = emit
        key = ctx.key
        self._group = trigger.group or f"hub.{key.namespace}.{key.flow}.{key.trigger}"
        self._lanes: dict[TopicPartition, Lane] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._to_place: set[TopicPartition] = set()
        self._placing_needed = asyncio.Event()
        self._committable: dict[TopicPartition, int] = {}
        self._commit_needed = asyncio.Event()
        self._room = asyncio.Event()
        self._ends: dict[TopicPartition, int] = {}
        self._taken = 0
        self._dead = 0
        self._committed_at: datetime | None = None
        self._error: str | None = None
        self._has_assignment = False
        self._others: dict[TopicPartition, str] = {}
        """Partitions that were seen to be of another topic than was read before, and how."""

    # what is shown

    async def failed(self, group: BaseExceptionGroup[BaseException]) -> None:
        """A session is over: find out why, and show it."""
        first = next(iter(_leaves(group)))
        if isinstance(first, StorageError | Unreachable):
            said = str(first)
        else:
            said = await reason(self._connection) or f"{self._connection.text}: {_shown(first)}"
        self._show(said)

    def _show(self, error: str | None) -> None:
        if error != self._error:
            if error is not None:
                self._ctx.log("warning", "kafka cannot be read; trying again", error=error)
            elif self._error is not None:
                self._ctx.log("info", "kafka is read again", cluster=self._connection.name)
            self._error = error
        self._report()

    def _report(self) -> None:
        lags = {}
        for tp, lane in sorted(self._lanes.items()):
            end = self._ends.get(tp)
            lags[lane.part] = None if end is None else max(end - lane.standing.next, 0)
        waiting = next((lane.error for lane in self._lanes.values() if lane.error is not None), None)
        self._ctx.report(
            SourceStatus(lags, self._taken, self._dead, self._committed_at, self._error or waiting)
        )

    # a session

    async def session(self) -> None:
        """Read until something fails. Whatever fails comes as a group."""
        quieten()
        consumer = self._client()
        try:
            async with asyncio.timeout(_PATIENCE * 2):
                await consumer.start()
            self._subscribe(consumer)
            async with asyncio.TaskGroup() as tasks:
                self._begin = tasks.create_task
                tasks.create_task(self._poll(consumer))
                tasks.create_task(self._place(consumer))
                tasks.create_task(self._commit(consumer))
                tasks.create_task(self._watch(consumer))
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) or not isinstance(error, Exception):
                raise
            raise ExceptionGroup("a session", [error]) from error
        finally:
            await self._end(consumer)

    def _client(self) -> AIOKafkaConsumer:
        from aiokafka import AIOKafkaConsumer

        given: dict[str, Any] = {
            "client_id": "hub",
            "metadata_max_age_ms": 3_000,
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 1_500,
            "max_partition_fetch_bytes": 2 * 1024 * 1024,
            "fetch_max_bytes": 16 * 1024 * 1024,
            "request_timeout_ms": 20_000,
            "isolation_level": "read_committed",
        }
        given |= self._connection.tuning("any") | self._connection.tuning("consumer")
        return AIOKafkaConsumer(
            **self._connection.arguments(),
            **given,
            group_id=self._group,
            enable_auto_commit=False,
            # a partition is placed by hand; one that is out of range begins anew, and its offsets tell
            auto_offset_reset="earliest",
        )

    def _subscribe(self, consumer: AIOKafkaConsumer) -> None:
        from aiokafka import ConsumerRebalanceListener

        reader = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
                await reader.revoked(consumer)

            async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
                reader.assigned(consumer, assigned)

        pattern = self._trigger.topic_pattern
        if pattern is not None:
            consumer.subscribe(pattern=f"^(?:{pattern})$", listener=Listener())
        else:
            consumer.subscribe(topics=self._trigger.names, listener=Listener())

    def assigned(self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        """The group has given partitions: each is read once it is known where it stands."""
        found = set(partitions)
        consumer.pause(*found)
        self._to_place = found
        self._has_assignment = True
        self._placing_needed.set()

    async def revoked(self, consumer: AIOKafkaConsumer) -> None:
        """The group takes all partitions back: stop, store what is being stored, commit."""
        self._to_place.clear()
        self._has_assignment = False
        await self._leave_lanes()
        await self._commit_now(consumer)
        self._committable.clear()

    async def _leave_lanes(self) -> None:
        lanes = list(self._lanes.values())
        tasks = list(self._tasks.values())
        await asyncio.gather(*(lane.leave(_PATIENCE) for lane in lanes))
        for task in tasks:
            task.cancel()
        self._lanes.clear()
        self._tasks.clear()
        self._ends.clear()

    async def _end(self, consumer: AIOKafkaConsumer) -> None:
        """Leave the group in order, in the time there is."""
        self._to_place.clear()
        await self._leave_lanes()
        await self._commit_now(consumer)
        self._committable.clear()
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.stop()
        except Exception as error:
            self._ctx.log("debug", "a consumer was not closed in order", error=str(error))

    # records

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Fill the lanes; ask again and again, so that the group knows that somebody is here."""
        loop = asyncio.get_running_loop()
        stuck_since: float | None = None
        while True:
            wanted = [tp for tp, lane in self._lanes.items() if lane.wants_more]
            if wanted or not self._lanes:
                stuck_since = None
                self._resume(consumer, wanted)
            else:
                self._room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL / 1000):
                        await self._room.wait()
                        continue
                stuck_since = stuck_since or loop.time()
                if loop.time() - stuck_since < _STUCK_AFTER:
                    continue
                self._pause(consumer)
            found = await consumer.getmany(*wanted, timeout_ms=_POLL, max_records=_MOST_RECORDS)
            for tp, records in found.items():
                lane = self._lanes.get(tp)
                # not placed yet: it is read again from where it stands
                if lane is not None and records:
                    self._fill(tp, lane, records)

    def _fill(self, tp: TopicPartition, lane: Lane, records: Sequence[Any]) -> None:
        try:
            lane.add(records)
        except Recreated as shown:
            if shown.is_certain:
                self._others[tp] = str(shown)
            self._place_again(tp, lane)

    def _place_again(self, tp: TopicPartition, lane: Lane) -> None:
        """What came before is stored, then it is looked up where the partition stands."""

        async def finished() -> None:
            await lane.finish()
            if self._lanes.get(tp) is lane and not lane.is_leaving:
                del self._lanes[tp]
                self._to_place.add(tp)
                self._placing_needed.set()

        self._begin(finished())

    def _pause(self, consumer: AIOKafkaConsumer) -> None:
        with suppress(Exception):  # taken back meanwhile
            consumer.pause(*self._lanes)

    def _resume(self, consumer: AIOKafkaConsumer, wanted: Iterable[TopicPartition]) -> None:
        paused = consumer.paused()
        if paused:
            with suppress(Exception):
                consumer.resume(*[tp for tp in wanted if tp in paused])

    # places

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Find out where each assigned partition stands, and begin to read it there."""
        placing = Placing(self._trigger, self._connection, self._ctx, self._emit, consumer)
        while True:
            await self._placing_needed.wait()
            self._placing_needed.clear()
            wanted = set(self._to_place)
            if not wanted:
                continue
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await placing.standings(wanted, self._others)
            except FenceRefused:
                self._placing_needed.set()
                continue
            except TimeoutError:
                if wanted <= self._to_place:
                    raise Unreachable(
                        f"{self._connection.text}: {_names(wanted)} cannot be placed: no answer"
                    ) from None
                continue
            for tp, standing in found.items():
                if tp in self._to_place and tp in consumer.assignment():  # else it was taken back meanwhile
                    self._to_place.discard(tp)
                    self._others.pop(tp, None)
                    consumer.seek(tp, standing.begins_at)
                    self._open(tp, standing)
                    consumer.resume(tp)
            if self._to_place:
                self._placing_needed.set()
            self._room.set()

    def _open(self, tp: TopicPartition, standing: Any) -> None:
        lane = Lane(
            part_of(tp),
            standing,
            self._trigger,
            self._ctx,
            self._emit,
            send_dead=self._send_dead,
            stored=lambda lane, count, dead: self._stored(tp, lane, count, dead),
        )
        self._lanes[tp] = lane
        self._tasks[tp] = self._begin(self._run(tp, lane))

    async def _run(self, tp: TopicPartition, lane: Lane) -> None:
        try:
            await lane.run()
        except Moved:
            if self._lanes.get(tp) is lane and not lane.is_leaving:
                self._ctx.log("info", "another reader has moved a partition on", part=lane.part)
                del self._lanes[tp]
                self._to_place.add(tp)
                self._placing_needed.set()

    def _stored(self, tp: TopicPartition, lane: Lane, count: int, dead: int) -> None:
        """Records of a partition are durable: they may be committed, and there is room for more."""
        self._taken += count
        self._dead += dead
        if self._lanes.get(tp) is lane:
            self._committable[tp] = lane.standing.next
            self._commit_needed.set()
        self._room.set()

    async def _send_dead(self, records: Sequence[ToSend]) -> object:
        producer = await shared_producer(self._ctx, self._connection)
        return await producer.send(records)

    # commits

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Tell Kafka what is stored, once for all that has been since the last time."""
        while True:
            await self._commit_needed.wait()
            self._commit_needed.clear()
            await self._commit_now(consumer)

    async def _commit_now(self, consumer: AIOKafkaConsumer) -> None:
        """A commit that fails does no harm: the storage knows the next offset, and the next one tells."""
        from aiokafka.errors import KafkaError

        offsets, self._committable = self._committable, {}
        if not offsets:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            self._ctx.log("debug", "offsets were not committed", error=_shown(error))
        else:
            self._committed_at = self._ctx.now()

    # how far the topics are

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """See now and then whether the cluster answers, how much waits, and whether the topics are the same."""
        while True:
            self._show(await self._look(consumer))
            await asyncio.sleep(_WATCH)

    async def _look(self, consumer: AIOKafkaConsumer) -> str | None:
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
            if not self._has_assignment or dict(self._lanes) != lanes:
                return None  # the group gives its partitions out anew
            return (
                await reason(self._connection) or f"{self._connection.text}: {_names(lanes)}: {_shown(error)}"
            )
        for tp, end in ends.items():
            known = lanes[tp]
            # a log may also have lost its end; what was read is read, and what comes is new
            shrank = end < self._ends.get(tp, 0)
            is_read = self._lanes.get(tp) is known
            if is_read and (end < before[tp] or shrank) and known.wants_more:
                self._place_again(tp, known)
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


def _names(partitions: Iterable[TopicPartition]) -> str:
    return "topic " + ", ".join(sorted({tp.topic for tp in partitions}))


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
