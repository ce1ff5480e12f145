"""The registry: every component by its type name, and how each plugin was loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from hub.plugin.file_store import FileStore
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import Storage
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger

Cleaner = Callable[[str], Awaitable[int]]


@dataclass(frozen=True)
class PluginReport:
    """How one plugin was loaded."""

    name: str
    distribution: str | None
    version: str | None
    types: tuple[str, ...] = ()
    state: str = "loaded"
    """``loaded``, ``partly`` (some of its types are claimed by another), or ``failed``."""
    error: str | None = None


@dataclass(frozen=True)
class Registry:
    """A value; two hubs in one process may have different ones."""

    tasks: Mapping[str, type[Task]] = field(default_factory=dict)
    triggers: Mapping[str, type[Trigger]] = field(default_factory=dict)
    storages: Mapping[str, type[Storage]] = field(default_factory=dict)
    """By the scheme of their URL."""
    file_stores: Mapping[str, type[FileStore]] = field(default_factory=dict)
    secret_sources: tuple[type[SecretSource], ...] = ()
    functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    cleaners: tuple[Cleaner, ...] = ()
    settings: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """The plugins' settings models, by plugin name."""
    plugins: tuple[PluginReport, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        tasks: Iterable[type[Task]] = (),
        triggers: Iterable[type[Trigger]] = (),
        storages: Mapping[str, type[Storage]] | None = None,
        file_stores: Mapping[str, type[FileStore]] | None = None,
        secret_sources: Iterable[type[SecretSource]] = (),
    ) -> Registry:
        """A registry of these components, for tests and embedding."""
        return cls(
            tasks={task.type: task for task in tasks},
            triggers={trigger.type: trigger for trigger in triggers},
            storages=storages or {},
            file_stores=file_stores or {},
            secret_sources=tuple(secret_sources),
        )

    def explain(self, kind: str, type_name: str) -> str | None:
        """Why a type is not there although its plugin is known, or None."""
        plugin = type_name.split(".", 1)[0]
        for report in self.plugins:
            if report.error and (report.name == plugin or f'"{type_name}"' in report.error):
                return report.error
        return None
