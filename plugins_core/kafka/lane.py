"""A lane: what one assigned partition brings, on its way into the storage.

The reader fills it; what lies in it is cut into pieces. Several pieces may be made into events at a time, which
for a batch means a file that is written and flushed; they are stored one after another, so that the order of the
partition is the order of the events. What a lane has stored is told to the reader, which commits it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from hub.plugin import Emit, FenceRefused, StorageOverloaded, StorageUnavailable, TriggerContext
from plugins_core.kafka.batches import Made, dead_letter, events_of, together
from plugins_core.kafka.producer import ToSend
from plugins_core.kafka.records import Record, size_of
from plugins_core.kafka.standing import Recreated, Standing

if TYPE_CHECKING:
    from plugins_core.kafka.trigger import Messages

_MOST_TOGETHER = 100
"""Records that are stored in one transaction, where each is an event of its own: judging them keeps the loop from
everybody else for a few milliseconds."""
_MOST_LYING = 300
"""Records that lie in a lane, where they are no batch."""
_MOST_AHEAD = 4
"""Batches of a lane that are made or stored at a time: the files of the next ones are flushed beside a commit."""
_MOST_LYING_AHEAD = 2_000
"""Records up to which more than one batch lies in a lane."""
_MOST_BYTES = 4 * 1024 * 1024
"""Bytes of records that lie in a lane, are on their way beside others, or are stored in one transaction."""
_PAUSE = 0.25
"""Seconds until a storage is asked again that could not store."""


class Moved(Exception):
    """Another reader has moved this partition on: where it stands has to be read again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Records that become events together, and the making of these."""

    records: list[Record]
    size: int
    making: asyncio.Task[Made]


class Lane:
    """One partition of a topic, from the record that was read to the event that is stored."""

    def __init__(
        self,
        part: str,
        standing: Standing,
        trigger: Messages,
        ctx: TriggerContext,
        emit: Emit,
        *,
        send_dead: Callable[[Sequence[ToSend]], Awaitable[object]],
        stored: Callable[[Lane, int, int], None],
    ) -> None:
        self.part = part
        self.standing = standing
        self.error: str | None = None
        """Why nothing can be stored now."""
        self._trigger = trigger
        self._ctx = ctx
        self._emit = emit
        self._send_dead = send_dead
        self._stored = stored
        self._records: list[Record] = []
        self._sizes: list[int] = []
        """Of each of them, in bytes."""
        self._bytes = 0
        self._first_at = 0.0
        self._filled = asyncio.Event()
        self._pieces: deque[Piece] = deque()
        """On their way into the storage, in order."""
        self._are_pieces_cut = False
        """Whether no piece will follow."""
        self._cut = asyncio.Event()
        self._place = asyncio.Event()
        self._seen: int | None = None
        """The last offset that came."""
        self.is_leaving = False
        """Whether the partition is being given back."""
        self._is_finishing = False
        self._left = asyncio.Event()

    # filling

    @property
    def wants_more(self) -> bool:
        """Whether there is room in it."""
        batch = self._trigger.batch
        if batch is None:
            most, room = _MOST_LYING, _MOST_BYTES
        else:
            # the client fetches again once all partitions have room: one that is slow keeps up the others
            ahead = min(batch.max_messages * _MOST_AHEAD, _MOST_LYING_AHEAD)
            most, room = max(batch.max_messages, ahead), max(batch.max_bytes, _MOST_BYTES)
        if self.is_leaving or self._is_finishing:
            return False
        return len(self._records) < most and self._bytes < room

    def add(self, records: Sequence[Record]) -> None:
        """Records of the partition, in order. Raises ``Recreated``."""
        if self._seen is None:
            fresh = self.standing.new_ones(records)
        elif records[0].offset > self._seen:
            fresh = records
        else:
            raise Recreated(f"offset {records[0].offset} comes again, after offset {self._seen}")
        self._seen = records[-1].offset
        if not fresh:
            return
        if not self._records:
            self._first_at = asyncio.get_running_loop().time()
        self._records += fresh
        sizes = list(map(size_of, fresh))
        self._sizes += sizes
        self._bytes += sum(sizes)
        self._filled.set()

    # emptying

    async def run(self) -> None:
        """Store what comes, until it is left. Raises groups of ``Moved``, ``Unreachable``."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._store_pieces())
                while not (self.is_leaving or (self._is_finishing and not self._records)):
                    await self._filled.wait()
                    self._filled.clear()
                    while self._records and await self._is_ready():
                        records, size = self._take()
                        making = tasks.create_task(self._make(records))
                        self._pieces.append(Piece(records, size, making))
                        self._cut.set()
                self._are_pieces_cut = True
                self._cut.set()
        finally:
            self._left.set()

    async def leave(self, timeout: float) -> None:
        """Take nothing more, and return once what is on its way is stored, or after ``timeout`` seconds."""
        self.is_leaving = True
        self._filled.set()
        try:
            async with asyncio.timeout(timeout):
                await self._left.wait()
        except TimeoutError:
            # the storage is away: what it may yet store is refused where another has gone on from here
            self._ctx.log(
                "warning", "a partition was left while its records were being stored", part=self.part
            )

    async def finish(self) -> None:
        """Take nothing more, and return once all that lies here is stored."""
        self._is_finishing = True
        self._filled.set()
        await self._left.wait()

    async def _is_due(self) -> bool:
        """Whether what lies here is to be stored now; where it is a batch that may wait, it waits a while."""
        batch = self._trigger.batch
        if (
            batch is None
            or self._is_finishing
            or len(self._records) >= batch.max_messages
            or self._bytes >= batch.max_bytes
        ):
            return True
        left = self._first_at + batch.max_wait.total_seconds() - asyncio.get_running_loop().time()
        if left <= 0:
            return True
        try:
            async with asyncio.timeout(left):
                await self._filled.wait()
                self._filled.clear()
        except TimeoutError:
            return bool(self._records) and not self.is_leaving
        return await self._is_due() if not self.is_leaving else False

    def _take(self) -> tuple[list[Record], int]:
        """The next records that go together, and their size."""
        batch = self._trigger.batch
        most = _MOST_TOGETHER if batch is None else batch.max_messages
        room = _MOST_BYTES if batch is None else batch.max_bytes
        count = min(most, len(self._records))
        size = sum(self._sizes[:count])
        if size > room:
            count = max(bisect_right(list(accumulate(self._sizes[:count])), room), 1)
            size = sum(self._sizes[:count])
        taken = self._records[:count]
        del self._records[:count], self._sizes[:count]
        self._bytes -= size
        self._first_at = asyncio.get_running_loop().time()
        return taken, size

    async def _is_ready(self) -> bool:
        """Whether what lies here is to be on its way now; waits until it may be, beside what is already."""
        most = 1 if self._trigger.batch is None else _MOST_AHEAD
        while self._pieces and (
            len(self._pieces) >= most or sum(piece.size for piece in self._pieces) >= _MOST_BYTES
        ):
            self._place.clear()
            await self._place.wait()
        return not self.is_leaving and await self._is_due()

    async def _make(self, records: list[Record]) -> Made:
        """The events of records; the file of a batch is flushed when this returns."""
        made: Made = await self._until_stored(lambda: events_of(records, self._trigger, self._ctx))
        if self._trigger.dead_letter is None:
            made.occurrences += [dead_letter(record, reason) for record, reason in made.unreadable]
        return made

    async def _store_pieces(self) -> None:
        """Store the pieces in order, all that are made already in one transaction."""
        while self._pieces or not self._are_pieces_cut:
            if not self._pieces:
                self._cut.clear()
                await self._cut.wait()
                continue
            await self._pieces[0].making
            made = list(takewhile(lambda piece: piece.making.done(), self._pieces))
            await self._store(made)
            for _ in made:
                self._pieces.popleft()
            self._place.set()

    async def _store(self, pieces: Sequence[Piece]) -> None:
        made = together([piece.making.result() for piece in pieces])
        if self._trigger.dead_letter is not None and made.unreadable:
            # before the offset moves on: a crash in between sends it once more, never not at all
            await self._send_dead([self._as_sent(one, reason) for one, reason in made.unreadable])
        state = self.standing.state_after(pieces[-1].records[-1])
        receipts = await self._until_stored(
            lambda: self._emit(made.occurrences, state=state, bookmark=self.standing.bookmark)
        )
        self.standing.move(state)
        failed = self._failed(made, receipts)
        count = sum(len(piece.records) for piece in pieces)
        self._stored(self, count, len(made.unreadable) + len(failed))
        if failed and self._trigger.dead_letter is not None:
            await self._send_dead([self._as_sent(record, reason) for record, reason in failed])

    def _failed(self, made: Made, receipts: Sequence[Any]) -> list[tuple[Record, str]]:
        """The records that the flow itself could not judge: its ``when``, or its inputs, failed."""
        found: list[tuple[Record, str]] = []
        for record, receipt in zip(made.of, receipts, strict=False):
            for verdict in receipt.verdicts:
                if verdict.outcome == "invalid":
                    found.append((record, verdict.reason or "the flow cannot take it"))
                    break
        return found

    async def _until_stored(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Its answer, however long the storage is away."""
        while True:
            try:
                answer = await work()
            except (StorageUnavailable, StorageOverloaded) as error:
                if self.error is None:
                    self._ctx.log("warning", "records wait for the storage", part=self.part, error=str(error))
                self.error = f"the storage takes nothing now: {error}"
                if self.is_leaving:
                    raise Moved(self.part) from error
                await asyncio.sleep(_PAUSE)
            except FenceRefused as error:
                raise Moved(self.part) from error
            else:
                self.error = None
                return answer

    def _as_sent(self, record: Record, reason: str) -> ToSend:
        """A record as it goes to the topic of dead letters: as it came, with where it came from and why."""
        assert self._trigger.dead_letter is not None
        where = {
            "hub-error": reason,
            "hub-topic": record.topic,
            "hub-partition": str(record.partition),
            "hub-offset": str(record.offset),
        }
        headers = [*record.headers, *((name, text.encode()) for name, text in where.items())]
        return ToSend(
            self._trigger.dead_letter.topic,
            record.value,
            record.key,
            headers,
            timestamp=max(record.timestamp, 0),
        )
