"""Where a trigger stands in one partition, and whether that partition is still the one it stood in.

A topic that was deleted and created again has new records at old offsets. Its log then ends below the stored
offset, or another record lies before it: either begins a new incarnation, in which everything is new. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.plugin import Bookmark
from plugins_core.kafka.records import Record, fingerprint


class Recreated(Exception):
    """The topic may be another one than the trigger stood in; the message says what shows it."""

    def __init__(self, message: str, *, is_certain: bool = False) -> None:
        super().__init__(message)
        self.is_certain = is_certain
        """Whether nothing else explains it; otherwise the log's end and the record before the next one tell."""


@dataclass
class Standing:
    """The next offset of a partition, as the storage has it."""

    bookmark: Bookmark
    next: int
    incarnation: int = 1
    hash: str | None = None
    """Of the record before ``next``, where it was taken here."""
    is_sure: bool = field(default=False)
    """Whether this incarnation has been seen to be the one that was stored."""

    @classmethod
    def stored(cls, bookmark: Bookmark) -> Standing | None:
        """What a bookmark says; None where nothing is stored."""
        state = bookmark.state
        if "next" not in state:
            return None
        return cls(bookmark, state["next"], state.get("incarnation", 1), state.get("hash"))

    @property
    def begins_at(self) -> int:
        """Where to read from: the record before the next one shows whether the topic is still the same."""
        return self.next - 1 if self.hash is not None and not self.is_sure and self.next > 0 else self.next

    def check_end(self, end: int) -> None:
        """Raise ``Recreated`` where a log ends below what was read of it."""
        if end < self.next:
            raise Recreated(f"its log ends at offset {end}, below the stored offset {self.next}")

    def new_ones(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records that were not taken yet. Raises ``Recreated``."""
        first = records[0]
        if first.offset >= self.next:
            # the record before it may be gone, by retention or compaction: nothing speaks against it
            self.is_sure = True
            return records
        if self.is_sure or first.offset != self.next - 1:
            raise Recreated(f"offset {first.offset} comes again, below the stored offset {self.next}")
        if fingerprint(first) != self.hash:
            raise Recreated(
                f"another record than the one that was read lies at offset {first.offset}", is_certain=True
            )
        self.is_sure = True
        return [record for record in records if record.offset >= self.next]

    def state_after(self, record: Record) -> dict[str, Any]:
        """The state to be stored with the events up to ``record``."""
        return {"incarnation": self.incarnation, "next": record.offset + 1, "hash": fingerprint(record)}

    def move(self, state: dict[str, Any]) -> None:
        """That state is stored."""
        self.bookmark = self.bookmark.moved(state)
        self.next, self.hash, self.is_sure = state["next"], state["hash"], True

    def skip_to(self, offset: int) -> None:
        """What lies before an offset is not read here."""
        self.next, self.hash, self.is_sure = offset, None, True

    def begin_again(self, at: int) -> None:
        """A new incarnation, from its first record on."""
        self.incarnation += 1
        self.next, self.hash, self.is_sure = at, None, True
