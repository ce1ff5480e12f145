"""What runs in the process of a check: load the plugins that are meant, and look at each.

Says what it found on its standard output, as JSON, whatever the plugins themselves print.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from inspect import getdoc
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from hub.errors import HubError
from hub.plugin import Component, Notifier, hookspecs
from hub.registry import PluginReport, Registry, load_plugins
from hub.registry.project import read_project, with_projects
from hub.testing.check.blocking import blocking_calls
from hub.testing.check.findings import Finding
from hub.testing.contracts.described import check_described, check_examples

_SLOW_IMPORT = 0.5
"""Seconds that a plugin may add to every start of the hub."""


def main(arguments: Sequence[str]) -> None:
    """``project FOLDER`` or ``installed [NAME…]``."""
    said = os.dup(1)
    os.dup2(2, 1)  # what a plugin prints is no finding
    kind, *names = arguments
    if kind == "project":
        project = read_project(Path(names[0]))
        found, wanted = with_projects([project]), list(project.points)
    else:
        found = list(entry_points(group=hookspecs.GROUP))
        wanted = [point for point in found if point.name in names]
    seconds = {point.name: _imported_in(point) for point in wanted}
    registry = load_plugins({}, found)
    findings = [
        finding
        for point in wanted
        for report in registry.plugins
        if report.name == point.name
        for finding in _findings(point, report, registry, seconds[point.name])
    ]
    components = {point.name: _components(registry, point.name) for point in wanted}
    text = json.dumps({"findings": [asdict(one) for one in findings], "components": components})
    with os.fdopen(said, "w", encoding="utf-8") as out:
        out.write(text)
    os._exit(0)  # a thread of the plugin may run on


def _imported_in(point: EntryPoint) -> float:
    """How long the plugin's own modules, and those that only it needs, take to be imported."""
    began = time.perf_counter()
    try:
        point.load()
    except BaseException:  # sys.exit() too: the loader says so
        return 0.0
    return time.perf_counter() - began


def _components(registry: Registry, plugin: str) -> list[str]:
    """The types whose contracts name them in a test."""
    both = (*registry.tasks.values(), *registry.triggers.values())
    return sorted(one.type for one in both if registry.owner_of(one) == plugin)


def _findings(
    point: EntryPoint, report: PluginReport, registry: Registry, seconds: float
) -> Iterator[Finding]:
    name = point.name
    if report.error is not None:
        yield Finding(name, "loads", "error", report.error)
    if report.state == "failed":
        return
    is_slow = seconds > _SLOW_IMPORT
    hint = ": import what is large where it is used" if is_slow else ""
    yield Finding(name, "loads", "warning" if is_slow else "ok", f"imported in {seconds:.2f} s{hint}")
    module = sys.modules[point.module]
    if not hasattr(module, "HUB_API"):
        message = f"{point.module} does not say which plugin API it is written for: HUB_API = 1"
        yield Finding(name, "names", "warning", message)
    types = ", ".join(report.types) or "no components"
    yield Finding(name, "names", "ok", f"brings {types}")
    yield from _described(name, registry)
    yield from _blocking(name, module)


def _described(name: str, registry: Registry) -> Iterator[Finding]:
    wrong: list[Finding] = []
    for one in _classes(name, registry):
        for check, look in (("described", check_described), ("examples", _loadable(registry))):
            try:
                look(one)
            except (AssertionError, HubError) as error:
                message = error.message if isinstance(error, HubError) else str(error)
                wrong.append(Finding(name, check, "error", message))
    model = registry.settings.get(name)
    wrong += [Finding(name, "described", "error", one) for one in _undescribed(model)] if model else []
    for function, call in registry.functions.items():
        if sys.modules.get(call.__module__) and _is_of(call, name, registry) and not getdoc(call):
            wrong.append(Finding(name, "described", "error", f'the function "{function}" has no docstring'))
    yield from wrong
    for check in ("described", "examples"):
        if not any(one.check == check for one in wrong):
            yield Finding(name, check, "ok", "every one of them")


def _classes(name: str, registry: Registry) -> Iterator[type[Component]]:
    for kind in (registry.tasks, registry.triggers, registry.notifiers):
        yield from (one for one in kind.values() if registry.owner_of(one) == name)


def _loadable(registry: Registry) -> Any:
    def look(component: type[Component]) -> None:
        if not issubclass(component, Notifier):  # one is declared in settings, by a name of its own
            check_examples(component, registry)

    return look


def _undescribed(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not field.description:
            yield f'settings: the field "{name}" has no description'


def _is_of(call: Any, name: str, registry: Registry) -> bool:
    """Whether a function is of the package that a plugin's classes are of."""
    packages = {one.__module__.partition(".")[0] for one, owner in registry.owners.items() if owner == name}
    return call.__module__.partition(".")[0] in packages


def _blocking(name: str, module: ModuleType) -> Iterator[Finding]:
    package = sys.modules[module.__name__.partition(".")[0]]
    places = list(getattr(package, "__path__", ())) or [package.__file__ or ""]
    found = [call for place in places for call in blocking_calls(Path(place))]
    advice = "it keeps the whole hub waiting: await, make it a plain def, or asyncio.to_thread(…)"
    for call in found:
        yield Finding(name, "blocking", "error", f"{call}: {advice}")
    if not found:
        yield Finding(name, "blocking", "ok", "no call that blocks the loop is seen")


if __name__ == "__main__":
    main(sys.argv[1:])
