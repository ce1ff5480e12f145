"""The events of a trigger that wait for a batch, as the trigger sees them: read from the storage, heard of by the bus.

What is heard only wakes; the storage says what waits, so nothing is missed by a crash or by another node's hand.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from hub.bus import Subscription
from hub.engine.payloads import is_put_away, size_of
from hub.engine.services import Services
from hub.errors import NotFound
from hub.model import jsontext
from hub.model.event import StoredEvent
from hub.model.flow import TriggerDeclaration
from hub.model.ids import TriggerKey
from hub.plugin.context import WaitingEvent, WaitingEvents
from hub.plugin.storage import Page
from hub.plugin.trigger import HttpTrigger
from hub.registry import Registry

log = structlog.get_logger("hub.triggers")

HEARD = 10_000
"""How many arrivals are counted; who waits for more is woken by so many."""
_PAGE = 100


def topic_of(key: TriggerKey) -> str:
    """What the bus tells by when an event of a trigger begins to wait."""
    return f"waiting {key}"


def is_batched(registry: Registry, declaration: TriggerDeclaration) -> bool:
    """Whether a trigger takes its events up together."""
    component = registry.triggers.get(declaration.type)
    if component is None or not issubclass(component, HttpTrigger):
        return False
    return component.batches(declaration.properties)


class WaitingHere(WaitingEvents):
    """``WaitingEvents`` of one trigger."""

    def __init__(self, services: Services, key: TriggerKey, news: Subscription) -> None:
        self._services = services
        self._key = key
        self._news = news

    async def read(self, *, limit: int, most_bytes: int) -> tuple[list[WaitingEvent], bool]:
        # forgotten first: what arrives while the storage is read is counted once too often, never too seldom
        self._news.forget()
        found: list[WaitingEvent] = []
        cursor = None
        while True:
            page = await self._services.storage.waiting_events(
                self._key, Page(min(_PAGE, limit - len(found)), cursor)
            )
            for stored in page.items:
                most_bytes -= _size(stored)
                if found and most_bytes < 0:
                    return found, True
                found.append(await self._whole(stored))
            cursor = page.next_cursor
            if cursor is None or len(found) >= limit:
                return found, cursor is not None

    async def _whole(self, stored: StoredEvent) -> WaitingEvent:
        event = stored.event
        try:
            data = await self._services.payloads.unpack(event.data)
        except NotFound as error:
            # its file was lost with the disk: the others must not wait for it for ever
            log.error(
                "a waiting event cannot be read", trigger=str(self._key), event=event.id, error=str(error)
            )
            data = {}
        return WaitingEvent(event.id, stored.received_at, data)

    async def more(self, count: int, *, timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for _ in range(count):
                    if self._news.missed:
                        return
                    await self._news.next()


def _size(stored: StoredEvent) -> int:
    data = stored.event.data
    return size_of(data) if is_put_away(data) else len(jsontext.dump_bytes(data))
