"""Events: one occurrence each, with CloudEvents 1.0 attributes, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any

from hub.model.frozen import dataclass
from hub.model.ids import FlowKey, TriggerKey

RESERVED = "hub."
"""How the types of the hub's own events begin; neither a task nor a sender outside may give one."""


def check_type(type: str) -> None:
    """Refuse a type that would pass for one of the hub's own. Raises ``ValueError``."""
    if type.startswith(RESERVED):
        raise ValueError(f'types that begin with "{RESERVED}" are the hub\'s own, got "{type}"')


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
    scope: str | None = None
    """What ``delivery.key`` is unique in; the emitting trigger when None."""
    id: str | None = None
    """The event's id, where files were stored for it before (``new_id()``); one of its own when None."""
    waits: bool = False
    """It is stored and starts nothing by its own trigger, which takes it up into a batch later."""
    takes: tuple[str, ...] = ()
    """The waiting events that this one, a batch, takes up: each once, in one transaction with it."""
    dead: str | None = None
    """Why it is a dead letter that starts nothing: it cannot be read, say."""
    raw: Callable[[], Mapping[str, Any]] | None = None
    """Makes what is stored in place of ``data`` where it becomes a dead letter by what the flow says of it."""
    order: str | None = None
    """Executions that its own trigger starts for events of one order run one after another."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from: a flow's trigger, a flow, or a sender outside."""

    uri: str
    """CloudEvents source."""
    flow: FlowKey | None = None
    trigger: str | None = None
    """The trigger of ``flow`` that emits; it is the first to want its events."""
    depth: int = 0
    """How many flows led here, one after another."""
    replay_of: str | None = None
    """The event that is emitted once more."""

    @classmethod
    def of_trigger(cls, key: TriggerKey) -> Origin:
        """A trigger as the origin of its events."""
        return cls(f"/{key}", key.flow_key, key.trigger)

    @property
    def key(self) -> TriggerKey | None:
        """The trigger's name, where it is one."""
        if self.flow is None or self.trigger is None:
            return None
        return TriggerKey(*self.flow, self.trigger)


@dataclass(frozen=True, slots=True)
class Event:
    """A stored occurrence."""

    id: str
    source: str
    """CloudEvents source: ``/namespace/flow/trigger`` of the trigger that emitted it, or what a sender said."""
    type: str
    time: datetime
    namespace: str | None
    flow: str | None
    """The flow that it came by: its trigger's, or the one that emitted it or ended; None from outside."""
    trigger: str | None
    data: Mapping[str, Any]
    """What expressions see as ``trigger``; a reference to the file store where it was too large for a row."""
    subject: str | None = None
    depth: int = 0
    """How many flows led here, one after another; beyond 20 it starts nothing, visibly."""
    replay_of: str | None = None
    """The event that this one repeats; the first one, where that was a repeat itself."""


BATCHED = "batched"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a trigger did or did not start its flow for an event."""

    namespace: str
    flow: str
    trigger: str
    outcome: str
    """``started``, ``refused`` (by ``when``), ``invalid`` (inputs or ``when`` failed), ``disabled``,
    ``tooDeep`` (too many flows started each other) or ``batched`` (it starts it together with others)."""
    reason: str | None = None
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as lists and the API show it."""

    event: Event
    received_at: datetime
    verdicts: tuple[Verdict, ...] = ()
    """Why triggers did not start their flows; those that did are known by their executions."""
    dead: str | None = None
    """Why it is a dead letter: somebody has to look at it; None when nobody has to."""
    repeats: int = 0
    """How often its delivery came again."""
    batch: str | None = None
    """The event that took it up with others; empty while it waits for that, None for one that never does."""


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
