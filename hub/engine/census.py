"""Count the asyncio tasks of each plugin now and then: one that leaves some behind on every call is named.

A coroutine's code says whose it is, by its module. A plugin may well keep a few for itself, a reader or a
keep-alive; hundreds that are still there at the next count belong to calls that are over. Run by the node.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine.faults import PluginFault, packages_of_others

if TYPE_CHECKING:
    from hub.engine.services import Services

log = structlog.get_logger("hub.watchdog")

EVERY = 30.0
"""Seconds between two counts."""
MANY = 200
"""Tasks of one plugin that outlast a count."""
_FAULT = "it leaves asyncio tasks behind"
_HINT = "await what it starts, or cancel it: async with asyncio.TaskGroup()"


class TaskCensus:
    """Counts again and again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._before: set[int] = set()

    async def run(self) -> None:
        """Count, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.count()

    def count(self) -> None:
        """Name each plugin that has many tasks that were there at the last count."""
        owners = packages_of_others(self._services.registry)
        old: dict[str, list[str]] = defaultdict(list)
        now: set[int] = set()
        for task in asyncio.all_tasks():
            module, name = _code_of(task)
            plugin = owners.get(module.partition(".")[0])
            if plugin is not None:
                now.add(id(task))
                if id(task) in self._before:
                    old[plugin].append(f"{module}.{name}")
        self._before = now
        for plugin, names in old.items():
            if len(names) > MANY:
                self._name(plugin, len(names), names[-1])

    def _name(self, plugin: str, count: int, code: str) -> None:
        log.error("plugin leaves asyncio tasks behind", plugin=plugin, tasks=count, code=code, hint=_HINT)
        fault = PluginFault(None, _FAULT, _HINT, self._services.clock.now(), code)
        self._services.faults.note(plugin, fault)


def _code_of(task: asyncio.Task[Any]) -> tuple[str, str]:
    """The module and the name of a task's coroutine; empty where it has just ended."""
    coroutine = task.get_coro()
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return "", ""
    return str(frame.f_globals.get("__name__", "")), str(getattr(coroutine, "__qualname__", ""))
