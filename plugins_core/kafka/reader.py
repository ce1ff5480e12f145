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
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hub.plugin import Emit, FenceRefused, HubError, TriggerContext
from plugins_core.kafka.client import Unreachable
from plugins_core.kafka.lane import Lane, Moved
from plugins_core.kafka.placing import Placing, part_of
from plugins_core.kafka.producer import ToSend, shared_producer
from plugins_core.kafka.quiet import quieten
from plugins_core.kafka.settings import Connection
from plugins_core.kafka.standing import Recreated
from plugins_core.kafka.watching import Watch, names_of, shown

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from plugins_core.kafka.trigger import Messages

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach a cluster: it is used again within ten seconds of its return."""
_POLL = 500
_SHORT_POLL = 10
"""Milliseconds that one look for records may wait."""
_COMMITS_APART = 0.05
"""Seconds from one commit of offsets to the next; whoever leaves commits at once."""
_STUCK_AFTER = 1.0
"""Seconds after which a partition that takes nothing is paused: until then what was fetched for it stays here."""
_MOST_RECORDS = 500
_PATIENCE = 5.0
"""Seconds that an answer of the cluster may take, and that a partition may take to be left."""


async def read_for_ever(trigger: Messages, connection: Connection, ctx: TriggerContext, emit: Emit) -> None:
    """Read until cancelled."""
    # in a thread: on a slow machine the client's modules take a second, in which everybody else would stand still
    await asyncio.to_thread(import_module, "aiokafka")
    reader = Reader(trigger, connection, ctx, emit)
    pause = _FIRST_PAUSE
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await reader.session()
        except* (HubError, OSError, TimeoutError) as group:
            await reader.watch.failed(next(iter(_leaves(group))))
        except* Exception as group:
            if not _is_of_client(group):
                raise
            await reader.watch.failed(next(iter(_leaves(group))))
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
        self.watch = Watch(trigger, connection, ctx, self._lanes)
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._to_place: set[TopicPartition] = set()
        self._placing_needed = asyncio.Event()
        self._committable: dict[TopicPartition, int] = {}
        self._commit_needed = asyncio.Event()
        self._room = asyncio.Event()
        self._others: dict[TopicPartition, str] = {}
        """Partitions that were seen to be of another topic than was read before, and how."""

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
                tasks.create_task(self.watch.run(consumer, self._place_again))
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
        self._placing_needed.set()

    async def revoked(self, consumer: AIOKafkaConsumer) -> None:
        """The group takes all partitions back: stop, store what is being stored, commit."""
        self._to_place.clear()
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
        self.watch.forget()

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
            # the client fetches for none while it holds anything for one: those that are full have room in a moment
            patience = _POLL if len(wanted) == len(self._lanes) else _SHORT_POLL
            found = await consumer.getmany(*wanted, timeout_ms=patience, max_records=_MOST_RECORDS)
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
                        f"{self._connection.text}: {names_of(wanted)} cannot be placed: no answer"
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
        except* Moved:
            if self._lanes.get(tp) is lane and not lane.is_leaving:
                self._ctx.log("info", "another reader has moved a partition on", part=lane.part)
                del self._lanes[tp]
                self._to_place.add(tp)
                self._placing_needed.set()

    def _stored(self, tp: TopicPartition, lane: Lane, count: int, dead: int) -> None:
        """Records of a partition are durable: they may be committed, and there is room for more."""
        self.watch.stored(count, dead)
        if self._lanes.get(tp) is lane:
            self._committable[tp] = lane.standing.next
            self._commit_needed.set()
        self._room.set()

    async def _send_dead(self, records: Sequence[ToSend]) -> object:
        producer = await shared_producer(self._ctx, self._connection)
        return await producer.send(records)

    # commits

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Tell Kafka what is stored, at once after a pause, else once for all that has been since the last time."""
        while True:
            await self._commit_needed.wait()
            self._commit_needed.clear()
            await self._commit_now(consumer)
            # what a crash brings again is known by the next offset in the storage; each telling takes time of the loop
            await asyncio.sleep(_COMMITS_APART)

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
            self._ctx.log("debug", "offsets were not committed", error=shown(error))
        else:
            self.watch.committed()
