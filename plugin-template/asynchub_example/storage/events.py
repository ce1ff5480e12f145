"""The events of the storage, and the delivery keys by which a repeat is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from asynchub_example.storage.journal import Journal
from hub.plugin import Arrival, DeliveryKey, Event, NotFound, StoredEvent


class Events:
    """Every event, by id and in the order they came."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kept: dict[str, tuple[int, StoredEvent]] = {}
        self._deliveries: dict[tuple[str, str], tuple[DeliveryKey, str]] = {}
        self._count_of_all = 0

    def __iter__(self) -> Iterator[tuple[int, StoredEvent]]:
        """Each with its number."""
        return iter(self._kept.values())

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._kept

    def find(self, event_id: str) -> StoredEvent | None:
        found = self._kept.get(event_id)
        return found[1] if found is not None else None

    def add(self, event: Event, arrival: Arrival, at: datetime) -> None:
        """Store the event of an arrival."""
        self._count_of_all += 1
        batch = "" if arrival.waits else None
        stored = StoredEvent(event, at, arrival.verdicts, arrival.dead, batch=batch)
        self._kept[event.id] = (self._count_of_all, stored)
        for taken in arrival.takes:
            number, stored = self._kept[taken]
            self._kept[taken] = (number, replace(stored, batch=event.id))
        self._journal.tell("event", event.id, None, flow_name(event))

    def waits(self, event_id: str) -> bool:
        """Whether an event waits for a batch."""
        found = self.find(event_id)
        return found is not None and found.batch == ""

    def first_of(self, delivery: DeliveryKey, event: Event, at: datetime) -> tuple[str, bool] | None:
        """Which event came first with this delivery key, and whether it had another body; None after
        remembering this one as the first."""
        name = (delivery.scope, delivery.key)
        earlier = self._deliveries.get(name)
        if earlier is None or earlier[0].expires_at <= at:
            self._deliveries[name] = (delivery, event.id)
            return None
        first, first_id = earlier
        differs = bool(delivery.body_hash and first.body_hash and delivery.body_hash != first.body_hash)
        return first_id, differs

    def repeat(self, event_id: str, again: Event) -> StoredEvent | None:
        """Count a repeat; answers the first, or None where only its key is left."""
        found = self._kept.get(event_id)
        if found is None:
            return None
        number, stored = found
        stored = replace(stored, repeats=stored.repeats + 1)
        self._kept[event_id] = (number, stored)
        self._journal.tell("event", event_id, "repeated", flow_name(again))
        return stored

    def settle(self, event_id: str) -> None:
        """It is no dead letter any more. Raises ``NotFound``."""
        number, stored = self._kept.get(event_id, (0, None))
        if stored is None or stored.dead is None:
            raise NotFound(f'no dead letter "{event_id}"')
        self._kept[event_id] = (number, replace(stored, dead=None))
        self._journal.tell("event", event_id, "settled", None)

    def remove(self, limit: int, is_wanted: Callable[[StoredEvent], bool]) -> tuple[tuple[str, ...], bool]:
        """Remove the oldest that are wanted gone; answers them and whether more are left."""
        found = [stored.event.id for _, stored in self if stored.dead is None and is_wanted(stored)]
        for event_id in found[:limit]:
            del self._kept[event_id]
        return tuple(found[:limit]), len(found) > limit

    def replays_of(self, event_id: str) -> list[str]:
        """The events that repeat one, oldest first."""
        return [stored.event.id for _, stored in self if stored.event.replay_of == event_id]

    def known(self, scope: str, keys: Sequence[str], at: datetime) -> dict[str, str]:
        """The events that known delivery keys belong to."""
        found = {}
        for key in keys:
            earlier = self._deliveries.get((scope, key))
            if earlier is not None and earlier[0].expires_at > at:
                found[key] = earlier[1]
        return found

    def forget_deliveries(self, now: datetime) -> None:
        """Remove the keys that have expired."""
        self._deliveries = {
            name: known for name, known in self._deliveries.items() if known[0].expires_at > now
        }


def flow_name(event: Event) -> str | None:
    """``namespace/id``, or None where there is no flow."""
    return f"{event.namespace}/{event.flow}" if event.flow else None
