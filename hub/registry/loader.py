"""Find the plugins by their entry points and load each in its own ``try``.

A plugin that cannot be loaded is reported by name, with what to do, and the rest loads. Of two distributions
that claim one name (a type, a storage's scheme, an expression function) a built-in one wins, else neither
loads. Those of others are first tried in a child process: see ``hub.registry.trial``.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hub.clock import SystemClock
from hub.errors import PluginError
from hub.expressions import builtin_functions
from hub.plugin import hookspecs
from hub.registry.collecting import Brought, collect
from hub.registry.registry import PluginReport, Registry
from hub.registry.trial import Trial, needs_trial, tried

BUILT_IN = "asynchub"
_EXTRAS = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_TOO_MUCH_MEMORY = (
    "it asks for more memory than there is; while they are loaded all plugins together get 2 GiB"
)
_CLAIMED = {
    "tasks": 'the task type "{}"',
    "triggers": 'the trigger type "{}"',
    "storages": 'the storage scheme "{}:"',
    "file_stores": 'the file store type "{}"',
    "notifiers": 'the notifier type "{}"',
    "secret_sources": 'the secret source type "{}"',
    "listeners": 'the listener type "{}"',
    "functions": 'the expression function "{}"',
}
"""What one plugin alone may bring, and what a message calls it."""


@dataclass
class _Plugin:
    """One plugin while it is being loaded."""

    name: str
    distribution: str | None
    version: str | None
    is_built_in: bool
    brought: Brought = field(default_factory=Brought)
    errors: list[str] = field(default_factory=list)
    failed: bool = False
    off: bool = False
    lacks_a_module: bool = False
    advice: str | None = None

    @property
    def origin(self) -> str:
        return f'plugin "{self.name}" of {self.distribution or "an unknown distribution"}'

    def fail(self, error: str) -> None:
        """Nothing of it is used, and this is why."""
        self.errors.append(error)
        self.failed = True
        self.brought = Brought()

    def switch_off(self) -> None:
        """Leave it out, as the settings have it."""
        self.off = True
        self.errors.append(
            f'plugin "{self.name}" is switched off: plugins.{self.name}.enabled is false in the settings'
        )

    def report(self) -> PluginReport:
        state = "off" if self.off else "failed" if self.failed else "partly" if self.errors else "loaded"
        return PluginReport(
            self.name,
            self.distribution,
            self.version,
            self.brought.types(),
            state,
            "; ".join(self.errors) or None,
            self.advice,
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
    wanted = [point for point in points if not _is_switched_off(raw_settings or {}, point.name)]
    trials = _trials(wanted)
    loaded: list[_Plugin] = []
    names: dict[str, _Plugin] = {}
    for point in points:
        plugin = _named(point)
        loaded.append(plugin)
        if _is_switched_off(raw_settings or {}, point.name):
            plugin.switch_off()
            continue
        _load_tried(point, plugin, trials.get(id(point)))
        first = names.setdefault(point.name, plugin)
        if first is not plugin:
            _clash(f'the plugin name "{point.name}"', first, plugin)
            plugin.failed, plugin.brought = True, Brought()
            if not first.is_built_in:
                first.failed, first.brought = True, Brought()
    installed = {point.name for point in points}
    for name in raw_settings or {}:
        if name not in installed and _is_switched_off(raw_settings or {}, name):
            absent = _Plugin(name, None, None, False)
            absent.switch_off()
            loaded.append(absent)
    _settle(loaded)
    return _registry(loaded)


def _is_switched_off(raw_settings: Mapping[str, Any], name: str) -> bool:
    settings = raw_settings.get(name)
    return isinstance(settings, Mapping) and settings.get("enabled") is False


def _is_built_in(point: EntryPoint) -> bool:
    return point.dist is not None and _normal(point.dist.name) == BUILT_IN


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(point: EntryPoint) -> _Plugin:
    dist = point.dist
    return _Plugin(
        point.name, dist.name if dist else None, dist.version if dist else None, _is_built_in(point)
    )


def _trials(points: Iterable[EntryPoint]) -> Mapping[int, Trial]:
    """How the plugins of others do in a child process, by the identity of their entry points."""
    unknown = [point for point in points if not _is_built_in(point) and needs_trial(point)]
    found = tried(unknown, what_is_wrong_with) if unknown else []
    return {id(point): trial for point, trial in zip(unknown, found, strict=True)}


def what_is_wrong_with(point: EntryPoint) -> str | None:
    """Load a plugin of others for a trial; answers why it cannot be loaded, None where it can."""
    plugin = _named(point)
    _load(point, plugin)
    # that does no harm, and what brings the module is said by who knows the plugin's distribution
    return None if plugin.lacks_a_module else "; ".join(plugin.errors) or None


def _load_tried(point: EntryPoint, plugin: _Plugin, trial: Trial | None) -> None:
    """Load a plugin here, unless its trial says that it must not or cannot be."""
    if trial is not None and trial.died is not None:
        plugin.fail(_unusable(point, trial.died))
    elif trial is not None and trial.error is not None:
        plugin.fail(trial.error)
    else:
        plugin.advice = trial.advice if trial is not None else None
        _load(point, plugin)


def _load(point: EntryPoint, plugin: _Plugin) -> None:
    """Import a plugin and ask for what it brings. Whatever it does wrong is its own failure, never the hub's."""
    try:
        with stdout_kept_free(point.name):
            plugin.brought = collect(point.load(), point.name, is_built_in=plugin.is_built_in)
    except ModuleNotFoundError as error:
        plugin.fail(_missing_module(point, error))
        plugin.lacks_a_module = True
    except PluginError as error:
        plugin.fail(_unusable(point, error.message + (f" ({error.hint})" if error.hint else "")))
    except MemoryError:
        plugin.fail(_unusable(point, _TOO_MUCH_MEMORY))
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as error:  # sys.exit() among them: a module that ends the process is a module's fault
        plugin.fail(_unusable(point, f"{type(error).__name__}: {error}".removesuffix(": ")))


def _unusable(point: EntryPoint, reason: str) -> str:
    """The message for a plugin that is there and cannot be used."""
    leave_out = f"plugins: {{{point.name}: {{enabled: false}}}}"
    return f'plugin "{point.name}" cannot be loaded: {reason}. Update it, or leave it out with {leave_out}'


@contextmanager
def stdout_kept_free(plugin: str) -> Iterator[None]:
    """Send what a plugin prints while it is loaded to stderr: a command's stdout is data for programs."""
    with redirect_stdout(_Said(plugin)):
        yield


class _Said(io.TextIOBase):
    """Stands in for stdout; whose text it was is said with it."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(f'plugin "{self._plugin}" says: {line}' if self._at_start else line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _missing_module(point: EntryPoint, error: ModuleNotFoundError) -> str:
    """The message for a driver that is not installed, with the extra that brings it."""
    module = error.name or "a module"
    if f"{point.module}.".startswith(f"{module}."):
        return _unusable(point, f'its entry point names the module "{module}", which does not exist')
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


# -- names that two claim


def _clash(what: str, first: _Plugin, second: _Plugin) -> None:
    """Note on both sides that two claim one name."""
    winner = f"; the built-in {first.origin} keeps it" if first.is_built_in else "; neither is loaded"
    message = f"{what} is claimed by {first.origin} and by {second.origin}{winner}"
    second.errors.append(message)
    if not first.is_built_in:
        first.errors.append(message)


def _settle(plugins: list[_Plugin]) -> None:
    """Leave each name to one plugin, per kind."""
    for name in builtin_functions(SystemClock().now).functions:
        for plugin in plugins:
            if plugin.brought.functions.pop(name, None) is not None:
                plugin.errors.append(f'the expression function "{name}" is a built-in one and stays it')
    for kind, what in _CLAIMED.items():
        owners: dict[str, list[_Plugin]] = {}
        for plugin in plugins:
            for name in getattr(plugin.brought, kind):
                owners.setdefault(name, []).append(plugin)
        for name, claiming in owners.items():
            first = claiming[0]
            for other in claiming[1:]:
                _clash(what.format(name), first, other)
            losers = claiming[1:] if first.is_built_in or len(claiming) == 1 else claiming
            for plugin in losers:
                del getattr(plugin.brought, kind)[name]


def _registry(plugins: list[_Plugin]) -> Registry:
    def all_of(kind: str) -> dict[str, Any]:
        return {name: one for plugin in plugins for name, one in getattr(plugin.brought, kind).items()}

    functions: dict[str, Callable[..., object]] = all_of("functions")
    return Registry(
        tasks=all_of("tasks"),
        triggers=all_of("triggers"),
        storages=all_of("storages"),
        file_stores=all_of("file_stores"),
        notifiers=all_of("notifiers"),
        secret_sources=tuple(all_of("secret_sources").values()),
        listeners=tuple(all_of("listeners").values()),
        functions=functions,
        cleaners={p.name: tuple(p.brought.cleaners) for p in plugins if p.brought.cleaners},
        checks={p.name: tuple(p.brought.checks) for p in plugins if p.brought.checks},
        settings={p.name: p.brought.settings for p in plugins if p.brought.settings is not None},
        owners={one: plugin.name for plugin in plugins for one in plugin.brought.classes()},
        plugins=tuple(plugin.report() for plugin in sorted(plugins, key=lambda p: p.name)),
    )
