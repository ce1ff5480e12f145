"""Place partitions: find out where a trigger stands in each, from the storage, the group and the log itself.

The storage knows best. What the group has committed beyond that was taken by somebody else, and is theirs. Where
nobody has read a partition the trigger's ``from`` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from hub.plugin import Bookmark, Emit, TriggerContext
from plugins_core.kafka.settings import Connection
from plugins_core.kafka.standing import Recreated, Standing
from plugins_core.kafka.trigger import moment_of

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from plugins_core.kafka.trigger import Messages


def part_of(tp: TopicPartition) -> str:
    """What a partition is called in states and lists."""
    return f"{tp.topic}/{tp.partition}"


class Log(NamedTuple):
    """The log of a partition: its first offset, and the next one to be written."""

    begin: int
    end: int


class Placing:
    """Answers where partitions stand."""

    def __init__(
        self,
        trigger: Messages,
        connection: Connection,
        ctx: TriggerContext,
        emit: Emit,
        consumer: AIOKafkaConsumer,
    ) -> None:
        self._trigger = trigger
        self._connection = connection
        self._ctx = ctx
        self._emit = emit
        self._consumer = consumer

    async def standings(
        self, partitions: Iterable[TopicPartition], others: Mapping[TopicPartition, str]
    ) -> dict[TopicPartition, Standing]:
        """Where each of them stands; ``others`` are those that were seen to be of another topic, and why.

        Raises ``StorageUnavailable``, ``FenceRefused`` where another was quicker, and what the client raises.
        """
        asked = list(partitions)
        begins = await self._consumer.beginning_offsets(asked)
        ends = await self._consumer.end_offsets(asked)
        bookmarks = await self._ctx.bookmarks()
        found = {}
        for tp in asked:
            bookmark = bookmarks.get(part_of(tp), Bookmark(part_of(tp)))
            known = Standing.stored(bookmark)
            log = Log(begins[tp], ends[tp])
            if known is None:
                found[tp] = await self._first(tp, bookmark, bookmarks, log)
            else:
                found[tp] = await self._again(tp, known, log, others.get(tp))
        return found

    async def _again(self, tp: TopicPartition, known: Standing, log: Log, other: str | None) -> Standing:
        """A partition that was read before."""
        try:
            if other is not None:
                raise Recreated(other)
            known.check_end(log.end)
        except Recreated as shown:
            known.begin_again(log.begin)
            self._ctx.log(
                "warning",
                "a topic was created again: all of it is new",
                part=part_of(tp),
                cluster=self._connection.name,
                incarnation=known.incarnation,
                reason=str(shown),
            )
            return known
        if log.begin > known.next:
            gone = log.begin - known.next
            self._ctx.log(
                "warning", "records were removed before they were read", part=part_of(tp), count=gone
            )
            known.skip_to(log.begin)
        committed = await self._consumer.committed(tp)
        if committed is not None and known.next < committed <= log.end:
            # this trigger commits what is stored and nothing else: another member of the group took them
            count = committed - known.next
            self._ctx.log("info", "others of the group have read records", part=part_of(tp), count=count)
            known.skip_to(committed)
        return known

    async def _first(
        self, tp: TopicPartition, bookmark: Bookmark, bookmarks: dict[str, Bookmark], log: Log
    ) -> Standing:
        """A partition that this trigger has never read."""
        committed = await self._consumer.committed(tp)
        if committed is not None and log.begin <= committed <= log.end:
            return Standing(bookmark, committed)
        start = self._trigger.from_
        if start == "earliest" or not await self._was_there(tp, bookmarks):
            return Standing(bookmark, log.begin)
        place = log.end
        if start != "latest":
            stamp = int(moment_of(start).timestamp() * 1000)
            found = (await self._consumer.offsets_for_times({tp: stamp}))[tp]
            place = log.end if found is None else found.offset
        # kept: after a restart what has come meanwhile is not passed over
        state = {"incarnation": 1, "next": place, "hash": None}
        await self._emit([], state=state, bookmark=bookmark)
        return Standing(bookmark.moved(state), place)

    async def _was_there(self, tp: TopicPartition, bookmarks: dict[str, Bookmark]) -> bool:
        """Whether the partition was there when the topic was first read; all of a younger one is new."""
        known = bookmarks.get(tp.topic)
        if known is None:
            count = len(self._consumer.partitions_for_topic(tp.topic) or ())
            mark, state = Bookmark(tp.topic), {"partitions": count}
            await self._emit([], state=state, bookmark=mark)
            bookmarks[tp.topic] = mark.moved(state)
            return True
        return bool(tp.partition < known.state["partitions"])
