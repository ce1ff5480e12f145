"""Which triggers want the events of others: asked for every event, so it is a look-up by type.

Filled by the trigger supervisor as flows come and go; read by the intake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from hub.model.event import Event
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.trigger import EventTrigger, type_pattern

log = structlog.get_logger("hub.triggers")

DEEPEST = 20
"""How many flows may start each other, one after another."""


@dataclass(frozen=True, slots=True)
class Route:
    """A trigger that waits for events; a disabled one only shows that it would have."""

    key: TriggerKey
    trigger: EventTrigger
    patterns: tuple[re.Pattern[str], ...]
    disabled: bool


class Routes:
    """Every trigger that waits for events of others."""

    def __init__(self) -> None:
        self._routes: dict[TriggerKey, Route] = {}
        # by event type; types come from users, so this is emptied before it can grow without end
        self._by_type: dict[str, tuple[Route, ...]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._routes

    def put(self, key: TriggerKey, trigger: EventTrigger, *, disabled: bool) -> None:
        """Let a trigger have what it wants."""
        patterns = tuple(type_pattern(text) for text in trigger.event_types)
        self._routes[key] = Route(key, trigger, patterns, disabled)
        self._by_type.clear()

    def drop(self, flow: FlowKey) -> None:
        """Forget a flow's triggers."""
        gone = [key for key in self._routes if key.flow_key == flow]
        for key in gone:
            del self._routes[key]
        if gone:
            self._by_type.clear()

    def of_type(self, type: str) -> tuple[Route, ...]:
        """The triggers that want events of a type, by name."""
        found = self._by_type.get(type)
        if found is None:
            if len(self._by_type) >= _MOST_TYPES:
                self._by_type.clear()
            found = tuple(
                route
                for _, route in sorted(self._routes.items())
                if any(pattern.fullmatch(type) for pattern in route.patterns)
            )
            self._by_type[type] = found
        return found

    def wanting(self, event: Event) -> Sequence[Route]:
        """The triggers that want an event, the one that emitted it left out."""
        found = self.of_type(event.type)
        if not found:
            return ()
        own = (event.namespace, event.flow, event.trigger)
        return [route for route in found if route.key != own and _wants(route, event)]


def _wants(route: Route, event: Event) -> bool:
    try:
        return route.trigger.wants(event)
    except Exception:
        # a plugin's failure must not refuse the event to all the others
        log.exception("trigger failed to say whether it wants an event", trigger=str(route.key))
        return False


_MOST_TYPES = 1000
