"""What plugins do wrong while the hub runs: kept by plugin, with what to do, for ``hub plugins list --running``.

A task that fails is its flow's affair. What is noted here harms the hub or others, or shows that a component
does not do what it says: its author has to mend it. Noted by those who notice it, in whatever thread they are.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from hub.engine.outputs import Unstorable
from hub.engine.stopping import CancelledItself

if TYPE_CHECKING:
    from hub.engine.task_runner import LiveRun

log = structlog.get_logger("hub.plugins")

_MOST = 20
"""How many different faults of one plugin are kept; of more the oldest give way."""


@dataclass(frozen=True, slots=True)
class PluginFault:
    """One thing that a plugin did wrong, however often."""

    component: str | None
    """Its type; None where nobody can say."""
    fault: str
    hint: str
    """What to do."""
    last_at: datetime
    where: str | None = None
    """The execution and task run, or the trigger, where it was last."""
    count: int = 1


class PluginFaults:
    """The faults of every plugin since the hub started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_plugin: dict[str, dict[tuple[str | None, str], PluginFault]] = {}

    def note(self, plugin: str, fault: PluginFault) -> None:
        """Add one, or count it once more."""
        with self._lock:
            known = self._by_plugin.setdefault(plugin, {})
            before = known.pop((fault.component, fault.fault), None)
            known[fault.component, fault.fault] = (
                fault if before is None else replace(fault, count=before.count + 1)
            )
            if len(known) > _MOST:
                del known[next(iter(known))]

    def of(self, plugin: str) -> Sequence[PluginFault]:
        """Those of a plugin, the one that was last seen last."""
        with self._lock:
            return tuple(self._by_plugin.get(plugin, {}).values())


_OF_TASKS: tuple[tuple[type[BaseException], str, str], ...] = (
    (CancelledItself, "it cancels the task that it runs in", "cancel only tasks of your own making"),
    (SystemExit, "it asks the process to exit", "raise Fail(reason) where a task has failed"),
    (Unstorable, "it gives what cannot be stored", "return its Output model, or plain JSON data"),
)


def note_of_task(live: LiveRun, error: BaseException) -> None:
    """Note what a task's failure says of its author, where it says anything."""
    for kind, fault, hint in _OF_TASKS:
        if isinstance(error, kind):
            note_of_run(live, fault, hint)


def note_of_run(live: LiveRun, fault: str, hint: str) -> None:
    """Note something that a task run did."""
    services, component = live.executor.services, live.task.component
    where = f"{live.executor.execution_id} {live.path}"
    found = PluginFault(component.type, fault, hint, services.clock.now(), where)
    plugin = services.registry.owner_of(component)
    log.warning(
        "a component does what it must not", plugin=plugin, component=component.type, fault=fault, where=where
    )
    services.faults.note(plugin, found)
