"""Batches: requests are stored one by one and start their flow together.

Each is acknowledged when its event is durable; the storage holds what waits, so a batch goes on after a crash
or a re-deploy, and takes its events up in the same transaction that stores it: each is in exactly one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from hub.plugin import (
    Duration,
    Emit,
    FenceRefused,
    Model,
    Occurrence,
    StorageOverloaded,
    StorageUnavailable,
    TriggerContext,
    WaitingEvent,
    WaitingEvents,
    iso,
)

BATCH = "hub.webhook.batched"
"""The CloudEvents type of the event that a batch is."""
_MOST_EVENTS = 1000
_MOST_BYTES = 8 * 1024 * 1024
_LOOK = 5.0
"""Seconds between looks at a storage where nothing waited: another node may have put something there."""
_PAUSE = 0.5
"""Seconds until the storage is asked again that could not be."""


class Batch(Model):
    """When requests that wait start the flow together."""

    max_events: int = Field(
        100, ge=1, le=_MOST_EVENTS, description="As soon as so many wait, or 8 MiB of data."
    )
    max_wait: Duration = Field(
        timedelta(seconds=1),
        gt=timedelta(),
        le=timedelta(days=1),
        description="As soon as the first of them has waited so long.",
    )

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        """Make batches of what waits, until cancelled."""
        with ctx.waiting() as waiting:
            while True:
                try:
                    await self._step(waiting, ctx, emit)
                except (StorageUnavailable, StorageOverloaded) as error:
                    ctx.log("warning", "a batch waits for the storage", error=str(error))
                    await asyncio.sleep(_PAUSE)

    async def _step(self, waiting: WaitingEvents, ctx: TriggerContext, emit: Emit) -> None:
        """Look at what waits: make a batch of it, or wait for more."""
        events, more = await waiting.read(limit=self.max_events, most_bytes=_MOST_BYTES)
        if not events:
            await waiting.more(1, timeout=_LOOK)
            return
        left = self._left(events[0], ctx)
        if more or len(events) >= self.max_events or left <= timedelta(0):
            await _emit(events, emit, ctx)
        else:
            await waiting.more(self.max_events - len(events), timeout=left.total_seconds())

    def _left(self, first: WaitingEvent, ctx: TriggerContext) -> timedelta:
        # a clock that was put back does not make anybody wait longer than once more
        return min(first.received_at + self.max_wait - ctx.now(), self.max_wait)


async def _emit(events: Sequence[WaitingEvent], emit: Emit, ctx: TriggerContext) -> None:
    data = {"events": [_shown(one) for one in events], "count": len(events)}
    try:
        await emit(Occurrence(data, type=BATCH, takes=tuple(one.id for one in events)))
    except FenceRefused:
        ctx.log("info", "another node has taken up this batch")


def _shown(event: WaitingEvent) -> dict[str, Any]:
    return {"id": event.id, "receivedAt": iso(event.received_at), **event.data}
