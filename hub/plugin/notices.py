"""The outbox: notices that are owed, stored with what they are about, and what a storage does with them.

A notice is owed in the transaction of the state change that it tells of, so a crash delays it and never loses
it. The engine claims what is due, sends it and settles it; what is sent twice, because the answer was lost, is
sent under the same id. Notices of one ``topic`` may go together: claimed once, they stay together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hub.model.ids import FlowKey

if TYPE_CHECKING:
    from hub.plugin.storage import Page, Purged, Slice

MOST_TOGETHER = 100
"""How many notices of a topic go out as one; the rest are the next."""


class NoticeState(StrEnum):
    """Where a notice stands."""

    OWED = "owed"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up: somebody has to look at it."""
    DROPPED = "dropped"
    """Somebody decided that it need not be sent."""


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notice to be owed. One whose id is known already is not stored again."""

    id: str
    notifier: str
    """The name of who tells it, as ``hub.yaml`` has it."""
    content: Mapping[str, Any]
    """What it says: ``subject``, ``message`` and what else its notifier is given."""
    due_at: datetime
    topic: str | None = None
    """Those of one topic go together, as many as are owed when the first of them is due."""
    gap: timedelta | None = None
    """How long after one of its topic was claimed the next may be."""
    flow: FlowKey | None = None
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A stored notice."""

    id: str
    notifier: str
    state: NoticeState
    content: Mapping[str, Any]
    """What it says: ``subject``, ``message`` and what else its notifier is given."""
    created_at: datetime
    due_at: datetime | None = None
    """When it is to be sent; None once it is settled."""
    delivery_id: str | None = None
    """The id it is sent under, with others of its topic or alone; None until it was claimed."""
    attempts: int = 0
    """How many attempts have failed."""
    error: str | None = None
    """Why the last attempt failed."""
    settled_at: datetime | None = None
    topic: str | None = None
    flow: FlowKey | None = None
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class NoticeClaim:
    """The right to send what goes out under one id; ``fence`` goes up with each claim."""

    delivery_id: str
    fence: int
    notifier: str
    notices: tuple[Notice, ...]
    """Oldest first."""
    attempts: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What the last attempt got done, in its notifier's own words."""
    crashes: int = 0
    """How often in a row its claim was taken over: the node went down while it was being sent."""


@dataclass(frozen=True, slots=True)
class NoticeSettlement:
    """What became of a claim.

    ``OWED`` tries it again at ``due_at``. ``counts``: the attempt failed; one that was broken off did not.
    """

    delivery_id: str
    fence: int
    at: datetime
    state: NoticeState
    due_at: datetime | None = None
    error: str | None = None
    progress: Mapping[str, Any] | None = None
    counts: bool = False
    disables: str | None = None
    """A receiver that wants nothing any more, to be remembered with ``error`` as the reason."""


@dataclass(frozen=True, slots=True)
class NoticeFilter:
    """Which notices a list shows; None means any."""

    states: tuple[NoticeState, ...] = ()
    notifier: str | None = None
    namespace: str | None = None
    flow: str | None = None
    execution_id: str | None = None


class NoticeStorage(ABC):
    """The part of a storage that keeps notices; they come in with ``Arrival.notices``.

    ``take_over`` gives the claims of earlier incarnations back, and counts no attempt.
    """

    @abstractmethod
    async def claim_notices(self, *, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
        """Claim what is due by ``at``: for each notifier as many as ``room`` says, ``others`` for those it
        does not name; oldest first.

        A notice that has been claimed before is claimed with those it went with then, and under the same id.
        One of a topic takes along all of it that is owed and was never claimed, at most ``MOST_TOGETHER``,
        whether or not they are due; the topic's next ones are due ``gap`` later at the earliest.
        """

    @abstractmethod
    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        """Store what became of claims, each alone; answers which still stood. One that did not changes
        nothing: another holds it now, or somebody dropped it."""

    @abstractmethod
    async def next_notice_at(self, *, but: Collection[str] = ()) -> datetime | None:
        """When the earliest unclaimed notice is due, not counting those of some notifiers."""

    @abstractmethod
    async def notice(self, notice_id: str) -> Notice:
        """One notice. Raises ``NotFound``."""

    @abstractmethod
    async def notices(self, filter: NoticeFilter, page: Page) -> Slice[Notice]:
        """Notices, newest first."""

    @abstractmethod
    async def retry_notice(self, notice_id: str, *, at: datetime) -> Notice:
        """Let it be sent again, due at once and from its first attempt, with those that go with it: one that
        is owed, was given up or was dropped.

        Raises ``NotFound``, and ``Conflict`` when it was delivered.
        """

    @abstractmethod
    async def drop_notice(self, notice_id: str, *, at: datetime) -> Notice:
        """Nobody needs to be told any more; whoever sends it meanwhile finds that out when it settles.

        Raises ``NotFound``, and ``Conflict`` when it was delivered.
        """

    @abstractmethod
    async def notice_counts(self) -> Mapping[str, int]:
        """How many notices stand in each state but delivered and dropped, by state."""

    @abstractmethod
    async def purge_notices(self, *, before: datetime, limit: int = 500) -> Purged:
        """Remove notices that were delivered or dropped before a moment, oldest first."""

    @abstractmethod
    async def disabled_notifiers(self) -> dict[str, str]:
        """The receivers that want nothing any more, each with the reason."""

    @abstractmethod
    async def enable_notifier(self, name: str) -> None:
        """Forget that a receiver wanted nothing any more; one that is not disabled is left as it is."""
