"""The outbox of a memory storage: notices owed, claimed and settled, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hub.plugin import (
    MOST_TOGETHER,
    Conflict,
    NewNotice,
    NotFound,
    Notice,
    NoticeClaim,
    NoticeFilter,
    NoticeSettlement,
    NoticeState,
)
from plugins_core.memory.journal import Journal

_UNSETTLED = (NoticeState.OWED, NoticeState.DEAD)


@dataclass(slots=True)
class _Kept:
    """One notice with what only a storage knows of it."""

    number: int
    notice: Notice
    gap: timedelta | None
    claimed: bool = False
    fence: int = 0
    crashes: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_owed(self) -> bool:
        return self.notice.state is NoticeState.OWED

    @property
    def due(self) -> tuple[datetime, int]:
        """When it is due, and its number, by which the oldest is told."""
        assert self.notice.due_at is not None
        return self.notice.due_at, self.number

    def change(self, **changes: Any) -> None:
        self.notice = replace(self.notice, **changes)


class Notices:
    """Every notice, by id and in the order they came."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kept: dict[str, _Kept] = {}
        self._topics: dict[tuple[str, str], datetime] = {}
        self._count_of_all = 0
        self.disabled: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[int, Notice]]:
        """Each with its number."""
        return ((kept.number, kept.notice) for kept in self._kept.values())

    def get(self, notice_id: str) -> Notice:
        return self._find(notice_id).notice

    def _find(self, notice_id: str) -> _Kept:
        found = self._kept.get(notice_id)
        if found is None:
            raise NotFound(f'no notice "{notice_id}"')
        return found

    def owe(self, new: NewNotice, at: datetime) -> None:
        """Store a notice, unless its id is known."""
        if new.id in self._kept:
            return
        self._count_of_all += 1
        notice = Notice(
            new.id,
            new.notifier,
            NoticeState.OWED,
            new.content,
            at,
            new.due_at,
            topic=new.topic,
            flow=new.flow,
            execution_id=new.execution_id,
        )
        self._kept[new.id] = _Kept(self._count_of_all, notice, new.gap)
        self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        """Tell live views where a notice stands now."""
        flow = str(notice.flow) if notice.flow else None
        self._journal.tell("notice", notice.id, notice.state.value, flow)

    # -- claimed

    def claim(self, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
        """See ``NoticeStorage.claim_notices``."""
        claims: list[NoticeClaim] = []
        for notifier in dict.fromkeys(kept.notice.notifier for kept in self._free()):
            for _ in range(room.get(notifier, others)):
                claimed = self._claim_one(notifier, at)
                if claimed is None:
                    break
                claims.append(claimed)
        return claims

    def _free(self, notifier: str | None = None) -> list[_Kept]:
        return [
            kept
            for kept in self._kept.values()
            if kept.is_owed and not kept.claimed and notifier in (None, kept.notice.notifier)
        ]

    def _claim_one(self, notifier: str, at: datetime) -> NoticeClaim | None:
        while True:
            due = [kept for kept in self._free(notifier) if kept.due[0] <= at]
            if not due:
                return None
            first = min(due, key=lambda kept: kept.due)
            delivery_id = first.notice.delivery_id
            if delivery_id is None and first.notice.topic is not None:
                delivery_id = self._together(notifier, first.notice.topic, first.gap, at)
            elif delivery_id is None:
                delivery_id = first.notice.id
                first.change(delivery_id=delivery_id)
            if delivery_id is not None:
                return self._claimed(delivery_id)

    def _together(self, notifier: str, topic: str, gap: timedelta | None, at: datetime) -> str | None:
        """Let the oldest of a topic go out together from now on, and answer the id they have as one; or None,
        with all of the topic put off, where its gap has not passed."""
        owed = [
            kept
            for kept in self._free(notifier)
            if kept.notice.topic == topic and kept.notice.delivery_id is None
        ]
        open_at = self._topics.get((notifier, topic))
        if open_at is not None and open_at > at:
            for kept in owed:
                kept.change(due_at=max(kept.due[0], open_at))
            return None
        if gap is not None:
            self._topics[notifier, topic] = at + gap
        for kept in owed[:MOST_TOGETHER]:
            kept.change(delivery_id=owed[0].notice.id)
        return owed[0].notice.id

    def _claimed(self, delivery_id: str) -> NoticeClaim:
        together = [kept for kept in self._of_delivery(delivery_id) if kept.is_owed]
        fence = max(kept.fence for kept in together) + 1
        for kept in together:
            kept.claimed, kept.fence = True, fence
        first = together[0]
        notices = tuple(kept.notice for kept in together)
        return NoticeClaim(
            delivery_id,
            fence,
            first.notice.notifier,
            notices,
            first.notice.attempts,
            first.progress,
            first.crashes,
        )

    def _of_delivery(self, delivery_id: str) -> list[_Kept]:
        return [kept for kept in self._kept.values() if kept.notice.delivery_id == delivery_id]

    def take_over(self) -> None:
        """Give every claim back."""
        for kept in self._kept.values():
            kept.crashes += kept.claimed
            kept.claimed = False

    def next_at(self, but: Collection[str]) -> datetime | None:
        return min((kept.due[0] for kept in self._free() if kept.notice.notifier not in but), default=None)

    # -- settled

    def settle(self, one: NoticeSettlement) -> bool:
        """See ``NoticeStorage.settle_notices``."""
        held = [
            kept for kept in self._of_delivery(one.delivery_id) if kept.claimed and kept.fence == one.fence
        ]
        is_owed = one.state is NoticeState.OWED
        for kept in held:
            kept.claimed, kept.crashes = False, 0
            kept.change(
                state=one.state,
                due_at=(one.due_at or one.at) if is_owed else None,
                settled_at=None if is_owed else one.at,
                error=one.error,
                attempts=kept.notice.attempts + one.counts,
            )
            kept.progress = one.progress if one.progress is not None else kept.progress
            self._tell(kept.notice)
        if held and one.disables is not None:
            self.disabled[one.disables] = one.error or ""
        return bool(held)

    # -- by hand

    def retry(self, notice_id: str, at: datetime) -> Notice:
        """See ``NoticeStorage.retry_notice``."""
        wanted = self._undelivered(notice_id)
        delivery_id = wanted.notice.delivery_id
        others = self._of_delivery(delivery_id) if delivery_id is not None else []
        also = [one for one in others if one is not wanted and one.notice.state in _UNSETTLED]
        for kept in (wanted, *also):
            if not kept.claimed:
                kept.crashes = 0
                kept.change(state=NoticeState.OWED, due_at=at, settled_at=None, attempts=0)
                self._tell(kept.notice)
        return wanted.notice

    def drop(self, notice_id: str, at: datetime) -> Notice:
        """See ``NoticeStorage.drop_notice``."""
        wanted = self._undelivered(notice_id)
        wanted.claimed = False
        wanted.change(state=NoticeState.DROPPED, due_at=None, settled_at=at)
        self._tell(wanted.notice)
        return wanted.notice

    def _undelivered(self, notice_id: str) -> _Kept:
        found = self._find(notice_id)
        if found.notice.state is NoticeState.DELIVERED:
            raise Conflict(f"notice {notice_id} has been delivered")
        return found

    # -- going away

    def forget_topics(self, now: datetime) -> None:
        """Forget the gaps that have passed."""
        self._topics = {name: open_at for name, open_at in self._topics.items() if open_at > now}

    def remove(self, limit: int, is_wanted: Callable[[Notice], bool]) -> tuple[tuple[str, ...], bool]:
        """Remove the oldest that are wanted gone; answers them and whether more are left."""
        found = [kept.notice.id for kept in self._kept.values() if is_wanted(kept.notice)]
        for notice_id in found[:limit]:
            del self._kept[notice_id]
        return tuple(found[:limit]), len(found) > limit


def shows(filter: NoticeFilter, notice: Notice) -> bool:
    """Whether a filter shows a notice."""
    return (
        (not filter.states or notice.state in filter.states)
        and filter.notifier in (None, notice.notifier)
        and filter.namespace in (None, notice.flow.namespace if notice.flow else "")
        and filter.flow in (None, notice.flow.id if notice.flow else "")
        and filter.execution_id in (None, notice.execution_id)
    )


def is_past(notice: Notice, before: datetime) -> bool:
    """Whether a notice was delivered or dropped before a moment."""
    done = notice.state in (NoticeState.DELIVERED, NoticeState.DROPPED)
    return done and notice.settled_at is not None and notice.settled_at < before
