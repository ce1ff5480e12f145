"""The registry: every component by its type name, and how each plugin was loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from hub.plugin.checks import Check
from hub.plugin.file_store import FileStore
from hub.plugin.listener import Listener
from hub.plugin.notifier import Notifier
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import Storage
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger

Cleaner = Callable[[str], Awaitable[int]]
_LOCAL = "local."
_LOCAL_FILE = "tasks.py"
_NO_LOCAL = "local tasks are functions in a tasks.py of a folder that --flows names on the command line"


@dataclass(frozen=True)
class PluginReport:
    """How one plugin was loaded."""

    name: str
    distribution: str | None
    version: str | None
    types: tuple[str, ...] = ()
    state: str = "loaded"
    """``loaded``, ``partly`` (something of it cannot be used), ``failed`` or ``off`` (by the settings)."""
    error: str | None = None
    advice: str | None = None
    """What its author could do better, where it is loaded all the same."""


@dataclass(frozen=True)
class Registry:
    """A value; two hubs in one process may have different ones."""

    tasks: Mapping[str, type[Task]] = field(default_factory=dict)
    triggers: Mapping[str, type[Trigger]] = field(default_factory=dict)
    storages: Mapping[str, type[Storage]] = field(default_factory=dict)
    """By the scheme of their URL."""
    file_stores: Mapping[str, type[FileStore]] = field(default_factory=dict)
    notifiers: Mapping[str, type[Notifier]] = field(default_factory=dict)
    secret_sources: tuple[type[SecretSource], ...] = ()
    listeners: tuple[type[Listener], ...] = ()
    functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    cleaners: Mapping[str, tuple[Cleaner, ...]] = field(default_factory=dict)
    """By the plugin that brings them."""
    checks: Mapping[str, tuple[Check, ...]] = field(default_factory=dict)
    """By the plugin that brings them."""
    settings: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """The plugins' settings models, by plugin name."""
    values: Mapping[str, BaseModel] = field(default_factory=dict)
    """The settings themselves, once they are checked."""
    owners: Mapping[type[Any], str] = field(default_factory=dict)
    """Which plugin brings a class."""
    plugins: tuple[PluginReport, ...] = ()
    notifier_names: frozenset[str] | None = None
    """The names under ``notifiers:`` in the settings; None where nobody knows the settings."""

    @classmethod
    def of(
        cls,
        *,
        tasks: Iterable[type[Task]] = (),
        triggers: Iterable[type[Trigger]] = (),
        storages: Mapping[str, type[Storage]] | None = None,
        file_stores: Mapping[str, type[FileStore]] | None = None,
        secret_sources: Iterable[type[SecretSource]] = (),
        notifiers: Iterable[type[Notifier]] = (),
    ) -> Registry:
        """A registry of these components, for tests and embedding."""
        return cls(
            tasks={task.type: task for task in tasks},
            triggers={trigger.type: trigger for trigger in triggers},
            storages=storages or {},
            file_stores=file_stores or {},
            secret_sources=tuple(secret_sources),
            notifiers={notifier.type: notifier for notifier in notifiers},
        )

    def owner_of(self, component: type[Any]) -> str:
        """The plugin that brings a class; its type's prefix where nobody said."""
        return self.owners.get(component) or str(getattr(component, "type", "?")).split(".", 1)[0]

    def settings_of(self, component: type[Any]) -> Any:
        """The settings of the plugin that brings a class; None where it has none."""
        return self.values.get(self.owner_of(component))

    def with_values(self, values: Mapping[str, BaseModel]) -> Registry:
        """The same with the plugins' settings."""
        return replace(self, values=values)

    def with_notifier_names(self, names: Iterable[str]) -> Registry:
        """The same for a hub whose settings have these notifiers."""
        return replace(self, notifier_names=frozenset(names))

    def without(self, plugin: str, error: str) -> Registry:
        """The same without the classes of a plugin, which says why in its report."""

        def others(kind: Mapping[str, type[Any]]) -> dict[str, Any]:
            return {name: one for name, one in kind.items() if self.owner_of(one) != plugin}

        return replace(
            self,
            tasks=others(self.tasks),
            triggers=others(self.triggers),
            storages=others(self.storages),
            file_stores=others(self.file_stores),
            notifiers=others(self.notifiers),
            secret_sources=tuple(one for one in self.secret_sources if self.owner_of(one) != plugin),
            listeners=tuple(one for one in self.listeners if self.owner_of(one) != plugin),
            plugins=tuple(
                replace(one, state="failed", types=(), error=error) if one.name == plugin else one
                for one in self.plugins
            ),
        )

    def with_fault(self, plugin: str, error: str) -> Registry:
        """The same, with something of a plugin that turned out to be unusable in its report."""
        return replace(
            self,
            plugins=tuple(
                replace(
                    one,
                    state="partly" if one.state == "loaded" else one.state,
                    error="; ".join(filter(None, (one.error, error))),
                )
                if one.name == plugin
                else one
                for one in self.plugins
            ),
        )

    def with_local(self, tasks: Mapping[str, type[Task]], reports: Iterable[PluginReport]) -> Registry:
        """The same with these tasks of the folders' own ``tasks.py``, in place of the ones it had."""
        others = {name: one for name, one in self.tasks.items() if not name.startswith(_LOCAL)}
        kept = [one for one in self.plugins if not one.name.endswith(_LOCAL_FILE)]
        return replace(self, tasks={**others, **tasks}, plugins=(*kept, *reports))

    def is_switched_off(self, type_name: str) -> bool:
        """Whether the settings have switched off the plugin that a type is of."""
        plugin = type_name.split(".", 1)[0]
        return any(report.name == plugin and report.state == "off" for report in self.plugins)

    def explain(self, kind: str, type_name: str) -> str | None:
        """Why a type is not there although its plugin is known, or None."""
        plugin = type_name.split(".", 1)[0]
        for report in self.plugins:
            if report.error and (report.name == plugin or f'"{type_name}"' in report.error):
                return report.error
        if kind == "task" and type_name.startswith(_LOCAL):
            broken = [one.error for one in self.plugins if one.name.endswith(_LOCAL_FILE) and one.error]
            return "; ".join(broken) or _NO_LOCAL
        return None
