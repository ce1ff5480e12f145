"""Triggers, where their sources stand, and what a test of one has sent."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from hub.api.views.base import View
from hub.api.views.events import EventReceipt
from hub.clock import iso
from hub.plugin.context import SourceStatus


class SourcePartView(View):
    """One part of what a trigger reads, a partition for one."""

    part: str
    lag: int | None = Field(None, description="How many records wait in it; null where that is not known.")


class SourceView(View):
    """What a trigger reads part by part, and how far it is."""

    assignment: list[SourcePartView] = Field(description="The parts that this node reads.")
    lag: int | None = Field(None, description="How many records wait in all of them.")
    taken: int = Field(description="Records that were stored since the trigger began to run here.")
    dead: int = Field(description="Those of them that are dead letters.")
    committed_at: str | None = Field(None, description="When the source was last told what was taken.")

    @classmethod
    def of(cls, status: SourceStatus) -> SourceView:
        known = [lag for lag in status.lags.values() if lag is not None]
        return cls(
            assignment=[SourcePartView(part=part, lag=lag) for part, lag in status.lags.items()],
            lag=sum(known) if known else None,
            taken=status.taken,
            dead=status.dead,
            committed_at=iso(status.committed_at) if status.committed_at is not None else None,
        )


class TriggerView(View):
    """A trigger of a flow in use."""

    namespace: str
    flow: str
    id: str
    type: str
    state: str
    error: str | None = None
    disabled: bool = False
    url: str | None = Field(None, description="Where a webhook is reached.")
    curl: str | None = Field(None, description="A line that calls it.")
    next_times: list[str] = Field([], description="A schedule's next planned times.")
    source: SourceView | None = Field(None, description="What it reads part by part, where it does.")


class TriggerTestBody(View):
    """What a test lets happen."""

    model_config = ConfigDict(extra="forbid")

    data: Any = Field(
        None, description="A webhook's body, else what expressions see as `trigger`; a sample by default."
    )


class SentRequest(View):
    """The request that a test sent to a webhook."""

    method: str
    headers: dict[str, str]
    body: str


class TriggerTest(View):
    """What a test did; what it started is real."""

    sent: SentRequest | None = Field(None, description="The request, signed as its sender would sign it.")
    status: int | None = Field(None, description="What the webhook answered.")
    answer: Any = None
    events: list[EventReceipt] = Field([], description="The events that were stored, none if it was refused.")


class TriggerList(View):
    """Triggers of the flows in use."""

    items: list[TriggerView]
    next_cursor: str | None = None
