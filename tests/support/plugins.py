"""Plugins of others: installed the way an installer leaves them, or found without any file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from inspect import isfunction
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

from hub.plugin import hookimpl
from hub.plugin.hookspecs import GROUP
from hub.registry import PluginReport, Registry, load_plugins


def install(folder: Path, name: str, source: str) -> dict[str, str]:
    """Put a plugin into a folder; answers the environment in which a hub finds it."""
    module = f"asynchub_{name}"
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(dedent(source))
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: asynchub-{name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[hub.plugins]\n{name} = {module}\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


class _Dist:
    """A distribution as entry points carry it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"
        self.requires = ['aiothing>=1; extra == "thing"']
        self.metadata = self

    def get_all(self, name: str) -> list[str]:
        return ["thing"] if name == "Provides-Extra" else []


def module_of(name: str, **members: Any) -> str:
    """A module with these members, to be imported by its name; functions are marked as hooks."""
    made = ModuleType(f"made_{name}".replace("-", "_"))
    for key, value in members.items():
        setattr(made, key, hookimpl(value) if isfunction(value) else value)
    sys.modules[made.__name__] = made
    return made.__name__


def giving(answer: Any) -> Callable[[], Any]:
    """A hook that gives this."""
    return lambda: answer


def point(
    name: str, dist: str, hooks: Mapping[str, Any] | None = None, *, module: str | None = None
) -> EntryPoint:
    answers = {hook: giving(answer) for hook, answer in (hooks or {}).items()}
    found = EntryPoint(name, module or module_of(f"{name}_{dist}", **answers), GROUP)
    vars(found).update(dist=_Dist(dist))
    return found


def load(
    *points: EntryPoint, settings: Mapping[str, Any] | None = None
) -> tuple[Registry, dict[str, PluginReport]]:
    built_in = [one for one in entry_points(group=GROUP) if one.dist and one.dist.name == "asynchub"]
    registry = load_plugins(settings or {}, [*built_in, *points])
    return registry, {f"{one.name}/{one.distribution}": one for one in registry.plugins}
