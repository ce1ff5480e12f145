"""What plugins do wrong while the hub runs: kept by plugin, with what to do, for ``hub plugins list --running``.

A task that fails is its flow's affair. What is noted here harms the hub or others, or shows that a component
does not do what it says: its author has to mend it. Noted by those who notice it, in whatever thread they are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from hub.engine.outputs import Unstorable
from hub.engine.stopping import CancelledItself
from hub.errors import NotYours

if TYPE_CHECKING:
    from hub.engine.services import Services
    from hub.engine.task_runner import LiveRun
    from hub.registry import Registry

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

    def note(self, plugin: str, fault: PluginFault) -> int:
        """Add one, or count it once more; answers how often it was seen by now."""
        with self._lock:
            known = self._by_plugin.setdefault(plugin, {})
            before = known.pop((fault.component, fault.fault), None)
            count = 1 if before is None else before.count + 1
            known[fault.component, fault.fault] = replace(fault, count=count)
            if len(known) > _MOST:
                del known[next(iter(known))]
            return count

    def of(self, plugin: str) -> Sequence[PluginFault]:
        """Those of a plugin, the one that was last seen last."""
        with self._lock:
            return tuple(self._by_plugin.get(plugin, {}).values())


def packages_of_others(registry: Registry) -> Mapping[str, str]:
    """The plugins that do not come with the hub, by the package that their components are in."""
    packages = {
        component.__module__.partition(".")[0]: plugin for component, plugin in registry.owners.items()
    }
    packages.pop("plugins_core", None)
    packages.pop("hub", None)
    return packages


_SAYING: tuple[tuple[type[BaseException], str, str], ...] = (
    (CancelledItself, "it cancels the task that it runs in", "cancel only tasks of your own making"),
    (
        NotYours,
        "it lays hands on what is the hub's own",
        "open a connection or file of its own, and leave the hub's alone",
    ),
    (SystemExit, "it asks the process to exit", "raise Fail(reason) where a task has failed"),
    (Unstorable, "it gives what cannot be stored", "return its Output model, or plain JSON data"),
)


def note_of_task(live: LiveRun, error: BaseException) -> None:
    """Note what a task's failure says of its author, where it says anything."""
    for kind, fault, hint in _SAYING:
        if isinstance(error, kind):
            note_of_run(live, fault, hint)


def note_of_trigger(services: Services, name: str, type_name: str, error: Exception) -> None:
    """Note what a trigger's failure says of its author, where it says anything."""
    component = services.registry.triggers.get(type_name)
    for kind, fault, hint in _SAYING:
        if component is not None and isinstance(error, kind):
            found = PluginFault(type_name, fault, hint, services.clock.now(), name)
            services.faults.note(services.registry.owner_of(component), found)


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
