"""Events: one occurrence each, with CloudEvents 1.0 attributes, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Delivery:
    """What makes a repeat of an event known.

    ``key`` is unique in the trigger's own scope for ``window``; a repeat with another ``body_hash`` is a
    conflict. An empty hash is not compared.
    """

    key: str
    body_hash: str = ""
    window: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What a trigger hands to ``emit``: data is what expressions see as ``trigger``."""

    data: Mapping[str, Any]
    type: str | None = None
    """CloudEvents type; the trigger's own when None."""
    subject: str | None = None
    time: datetime | None = None
    """When it happened; now when None."""
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A stored occurrence."""

    id: str
    source: str
    """CloudEvents source: ``/namespace/flow/trigger`` of the trigger that emitted it."""
    type: str
    time: datetime
    namespace: str
    flow: str
    trigger: str
    data: Mapping[str, Any]
    subject: str | None = None
    depth: int = 0
    """How many flows led here, one after another; beyond 20 it is refused visibly."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a trigger did or did not start its flow for an event."""

    namespace: str
    flow: str
    trigger: str
    outcome: str
    """``started``, ``refused`` (by ``when``), ``invalid`` (inputs or ``when`` failed) or ``disabled``."""
    reason: str | None = None
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as lists and the API show it."""

    event: Event
    received_at: datetime
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What ``emit`` answers for one occurrence: it is durable now, or was known before."""

    event_id: str
    execution_ids: tuple[str, ...] = ()
    duplicate: bool = False
    conflict: bool = False
    """The delivery key is known with another body; nothing was stored."""
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def reason(self) -> str | None:
        """Why nothing was started, or None."""
        for verdict in self.verdicts:
            if verdict.reason:
                return verdict.reason
        return None
