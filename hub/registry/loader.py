"""Find the plugins by their entry points and collect what they bring, each in its own ``try``.

A plugin that cannot be loaded is reported by name and the rest loads. Of two distributions that claim one
type name a built-in one wins, else neither loads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from hub.errors import did_you_mean
from hub.plugin import hookspecs
from hub.plugin.component import Component
from hub.plugin.file_store import FileStore
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import Storage
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger
from hub.registry.registry import PluginReport, Registry

BUILT_IN = "asynchub"
_TYPE_NAME = re.compile(r"[a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_EXTRAS = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass
class _Plugin:
    """One plugin while it is being loaded."""

    name: str
    distribution: str | None
    version: str | None
    is_built_in: bool
    tasks: list[type[Task]] = field(default_factory=list)
    triggers: list[type[Trigger]] = field(default_factory=list)
    storages: list[type[Storage]] = field(default_factory=list)
    file_stores: list[type[FileStore]] = field(default_factory=list)
    secret_sources: list[type[SecretSource]] = field(default_factory=list)
    functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    cleaners: list[Any] = field(default_factory=list)
    settings: Any = None
    errors: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def origin(self) -> str:
        return f'plugin "{self.name}" of {self.distribution or "an unknown distribution"}'

    def types(self) -> list[str]:
        brought: list[Any] = [*self.tasks, *self.triggers, *self.file_stores, *self.secret_sources]
        return sorted(
            [one.type for one in brought] + [f"{scheme}:" for one in self.storages for scheme in one.schemes]
        )

    def report(self) -> PluginReport:
        state = "failed" if self.failed else "partly" if self.errors else "loaded"
        return PluginReport(
            self.name,
            self.distribution,
            self.version,
            tuple(self.types()),
            state,
            "; ".join(self.errors) or None,
        )


def load_plugins(
    raw_settings: Mapping[str, Any] | None = None, found: Iterable[EntryPoint] | None = None
) -> Registry:
    """Every installed plugin. Raises nothing: what cannot be loaded is in the registry's reports.

    ``raw_settings`` is the ``plugins:`` mapping as written; ``plugins: {name: {enabled: false}}`` leaves a
    plugin out.
    """
    points = list(entry_points(group=hookspecs.GROUP) if found is None else found)
    points.sort(key=lambda point: (not _is_built_in(point), point.name))
    switched_off = {
        name
        for name, settings in (raw_settings or {}).items()
        if isinstance(settings, Mapping) and settings.get("enabled") is False
    }
    loaded: list[_Plugin] = []
    names: dict[str, _Plugin] = {}
    for point in points:
        if point.name in switched_off:
            continue
        plugin = _load(point)
        first = names.get(point.name)
        if first is not None:
            _clash(f'the plugin name "{point.name}"', first, plugin)
            if not first.is_built_in:
                _drop(first)
            _drop(plugin)
        names.setdefault(point.name, plugin)
        loaded.append(plugin)
    _settle_types(loaded)
    return _registry(loaded)


def _is_built_in(point: EntryPoint) -> bool:
    return point.dist is not None and _normal(point.dist.name) == BUILT_IN


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _load(point: EntryPoint) -> _Plugin:
    dist = point.dist
    plugin = _Plugin(
        point.name, dist.name if dist else None, dist.version if dist else None, _is_built_in(point)
    )
    try:
        module = point.load()
        hooks = _hooks(module, plugin)
        _collect(plugin, hooks)
    except ModuleNotFoundError as error:
        plugin.errors.append(_missing_module(point, error))
        plugin.failed = True
    except Exception as error:
        # whatever a plugin does wrong is its own failure, never the hub's
        plugin.errors.append(f'plugin "{point.name}" cannot be loaded: {type(error).__name__}: {error}')
        plugin.failed = True
    if plugin.failed:
        _drop(plugin)
    return plugin


def _hooks(module: Any, plugin: _Plugin) -> Mapping[str, Any]:
    """The hooks a module implements, checked against their specifications."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, plugin.name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        wrong = re.search(r"unknown hook '(\w+)'", str(error))
        name = wrong.group(1) if wrong else "?"
        known = [spec for spec in dir(hookspecs) if getattr(getattr(hookspecs, spec), "hub_spec", None)]
        hint = did_you_mean(name, known)
        raise ValueError(f'unknown hook "{name}"' + (f" ({hint})" if hint else "")) from None
    return {caller.name: caller for caller in manager.get_hookcallers(module) or ()}


def _collect(plugin: _Plugin, hooks: Mapping[str, Any]) -> None:
    def all_of(name: str) -> list[Any]:
        return [item for answer in hooks[name]() for item in answer] if name in hooks else []

    plugin.tasks = [_component(plugin, one, Task) for one in all_of("register_tasks")]
    plugin.triggers = [_component(plugin, one, Trigger) for one in all_of("register_triggers")]
    plugin.storages = [_of_kind(one, Storage) for one in all_of("register_storages")]
    plugin.file_stores = [_of_kind(one, FileStore) for one in all_of("register_file_stores")]
    plugin.secret_sources = [_of_kind(one, SecretSource) for one in all_of("register_secret_sources")]
    plugin.cleaners = all_of("register_cleaners")
    if "register_expression_functions" in hooks:
        for answer in hooks["register_expression_functions"]():
            plugin.functions = {**plugin.functions, **answer}
    if "settings_model" in hooks:
        plugin.settings = next(iter(hooks["settings_model"]()), None)


def _of_kind(one: Any, kind: type[Any]) -> Any:
    if not (isinstance(one, type) and issubclass(one, kind)):
        raise TypeError(f"expected a subclass of {kind.__name__}, got {one!r}")
    return one


def _component(plugin: _Plugin, one: Any, kind: type[Component]) -> Any:
    """A task or trigger whose name fits its plugin's."""
    _of_kind(one, kind)
    name = getattr(one, "type", None)
    if not isinstance(name, str) or not _TYPE_NAME.match(name):
        raise ValueError(f"{one.__name__}.type is not a type name: {name!r}")
    if not plugin.is_built_in and name.split(".", 1)[0] != plugin.name:
        raise ValueError(f'the type "{name}" must begin with the plugin\'s name: "{plugin.name}.…"')
    return one


def _missing_module(point: EntryPoint, error: ModuleNotFoundError) -> str:
    """The message for a driver that is not installed, with the extra that brings it."""
    module = error.name or "a module"
    message = f'plugin "{point.name}" is not available: {module} is not installed'
    extra = _extra_for(point, module)
    if extra:
        return f"{message}. Install it with: pip install '{extra}'"
    return f"{message}. Install it with: pip install {module.split('.')[0]}"


def _extra_for(point: EntryPoint, module: str) -> str | None:
    """``asynchub[kafka]``, where an extra of the plugin's distribution names it or the module."""
    if point.dist is None:
        return None
    extras = point.dist.metadata.get_all("Provides-Extra") or []
    if point.name in extras:
        return f"{point.dist.name}[{point.name}]"
    wanted = _normal(module.split(".")[0])
    for requirement in point.dist.requires or []:
        name = _normal(re.split(r"[\s\[;<>=!~(]", requirement, maxsplit=1)[0])
        extra = _EXTRAS.search(requirement)
        if extra and name == wanted:
            return f"{point.dist.name}[{extra.group(1)}]"
    return None


def _clash(what: str, first: _Plugin, second: _Plugin) -> None:
    """Note on both sides that two claim one name."""
    winner = f"; the built-in {first.origin} keeps it" if first.is_built_in else "; neither is loaded"
    message = f"{what} is claimed by {first.origin} and by {second.origin}{winner}"
    second.errors.append(message)
    if not first.is_built_in:
        first.errors.append(message)


def _drop(plugin: _Plugin) -> None:
    plugin.failed = True
    plugin.tasks, plugin.triggers, plugin.storages = [], [], []
    plugin.file_stores, plugin.secret_sources, plugin.cleaners = [], [], []
    plugin.functions, plugin.settings = {}, None


def _settle_types(plugins: list[_Plugin]) -> None:
    """Leave each type name to one plugin, per kind."""
    for kind in ("tasks", "triggers", "file_stores", "secret_sources"):
        owners: dict[str, list[_Plugin]] = {}
        for plugin in plugins:
            for one in getattr(plugin, kind):
                owners.setdefault(one.type, []).append(plugin)
        for name, claiming in owners.items():
            if len(claiming) > 1:
                _settle_one(kind, name, claiming)


def _settle_one(kind: str, name: str, claiming: list[_Plugin]) -> None:
    first = claiming[0]
    what = f'the {kind.removesuffix("s").replace("_", " ")} type "{name}"'
    for other in claiming[1:]:
        _clash(what, first, other)
    losers = claiming[1:] if first.is_built_in else claiming
    for plugin in losers:
        setattr(plugin, kind, [one for one in getattr(plugin, kind) if one.type != name])


def _registry(plugins: list[_Plugin]) -> Registry:
    functions: dict[str, Callable[..., object]] = {}
    for plugin in plugins:
        for name, call in plugin.functions.items():
            functions.setdefault(name, call)
    return Registry(
        tasks={one.type: one for plugin in plugins for one in plugin.tasks},
        triggers={one.type: one for plugin in plugins for one in plugin.triggers},
        storages={
            scheme: one for plugin in reversed(plugins) for one in plugin.storages for scheme in one.schemes
        },
        file_stores={one.type: one for plugin in plugins for one in plugin.file_stores},
        secret_sources=tuple(one for plugin in plugins for one in plugin.secret_sources),
        functions=functions,
        cleaners=tuple(one for plugin in plugins for one in plugin.cleaners),
        settings={plugin.name: plugin.settings for plugin in plugins if plugin.settings is not None},
        plugins=tuple(plugin.report() for plugin in sorted(plugins, key=lambda p: p.name)),
    )
