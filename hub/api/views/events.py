"""Events with what became of each, and what is answered to those who send or replay them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from hub.api.lists import Fitting
from hub.api.views.base import OMITTED, View
from hub.clock import iso
from hub.model.event import Receipt, StoredEvent
from hub.model.execution import Execution


class VerdictView(View):
    """Why a trigger did or did not start its flow."""

    namespace: str
    flow: str
    trigger: str
    outcome: str = Field(description="`started`, `refused`, `invalid`, `disabled` or `tooDeep`.")
    reason: str | None = None
    execution_id: str | None = Field(None, description="What was started.")
    state: str | None = Field(None, description="Where the execution stands.")


class EventView(View):
    """A stored event, with CloudEvents attributes."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    received_at: str
    data: Any
    namespace: str | None = None
    flow: str | None = None
    trigger: str | None = None
    depth: int = Field(0, description="How many flows led here, one after another.")
    replay_of: str | None = Field(None, description="The event that this one repeats.")
    repeats: int = Field(0, description="How often its delivery came again.")
    batch: str | None = Field(
        None, description="The event that took it up with others; empty while it waits for that."
    )
    dead: str | None = Field(None, description="Why it is a dead letter.")
    verdicts: list[VerdictView] = Field([], description="What each trigger that might have wanted it did.")

    omitted: dict[str, str] = OMITTED

    @classmethod
    async def of(cls, stored: StoredEvent, fitting: Fitting, started: Sequence[Execution]) -> EventView:
        event = stored.event
        return cls(
            id=event.id,
            source=event.source,
            type=event.type,
            time=iso(event.time),
            subject=event.subject,
            received_at=iso(stored.received_at),
            data=await fitting.stored("data", event.data, f"/api/v1/events/{event.id}"),
            omitted=fitting.omitted(),
            namespace=event.namespace,
            flow=event.flow,
            trigger=event.trigger,
            depth=event.depth,
            replay_of=event.replay_of,
            repeats=stored.repeats,
            batch=stored.batch,
            dead=stored.dead,
            verdicts=[
                VerdictView(
                    namespace=one.flow.namespace,
                    flow=one.flow.id,
                    trigger=one.trigger or "",
                    outcome="started",
                    execution_id=one.id,
                    state=one.state.value,
                )
                for one in started
            ]
            + [
                VerdictView(
                    namespace=v.namespace,
                    flow=v.flow,
                    trigger=v.trigger,
                    outcome=v.outcome,
                    reason=v.reason,
                )
                for v in stored.verdicts
            ],
        )


class EventList(View):
    """A page of events, newest first."""

    items: list[EventView]
    next_cursor: str | None = None


class EventReceipt(View):
    """What became of one event that was sent or replayed."""

    event_id: str = Field(description="Of a known delivery, the first one's.")
    execution_ids: list[str] = Field(description="What it started.")
    duplicate: bool | None = Field(None, description="True for a repeat of a known delivery.")
    conflict: bool | None = Field(
        None, description="True where its source and id are known with other data; nothing was stored then."
    )
    reason: str | None = Field(None, description="Why nothing was started.")
    ignored: list[str] = Field([], description="Attributes that are not kept.")

    @classmethod
    def of(cls, receipt: Receipt, ignored: Sequence[str] = ()) -> EventReceipt:
        reason = None
        if receipt.conflict:
            reason = f"its source and id are known with other data, as event {receipt.event_id}"
        elif not receipt.execution_ids and not receipt.duplicate:
            reason = receipt.reason or "no trigger wants it"
        return cls(
            event_id=receipt.event_id,
            execution_ids=[] if receipt.conflict else list(receipt.execution_ids),
            duplicate=receipt.duplicate or None,
            conflict=receipt.conflict or None,
            reason=reason,
            ignored=list(ignored),
        )


class EventReceipts(View):
    """What became of each event, in the order they were sent."""

    items: list[EventReceipt]


class EventReplayBody(View):
    """What is repaired when an event happens once more."""

    model_config = ConfigDict(extra="forbid")

    data: dict[str, Any] = Field({}, description="In place of what its data have under the same names.")


class WebhookAnswer(View):
    """What a webhook answers once its event is durable."""

    event_id: str
    execution_ids: list[str]
    duplicate: bool | None = Field(None, description="True for a repeat of a known delivery.")
    batched: bool | None = Field(None, description="True where it starts the flow together with others.")
    reason: str | None = Field(None, description="Why nothing was started.")
