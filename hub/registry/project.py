"""Plugins in a project's own folder, which need not be installed: for whoever is writing one.

What an installer would write down is read out of ``pyproject.toml``; what the project depends on has to be
installed all the same.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hub.errors import InvalidInput, PluginError
from hub.plugin import hookspecs
from hub.registry.loader import load_plugins
from hub.registry.registry import Registry

_FILE = "pyproject.toml"


@dataclass(frozen=True)
class Project:
    """A plugin's project."""

    folder: Path
    root: Path
    """What its modules are imported from."""
    name: str
    """The distribution's."""
    points: tuple[EntryPoint, ...]
    """Its plugins."""


def read_project(folder: Path) -> Project:
    """The plugins of the project in a folder. Raises ``InvalidInput`` saying what is missing."""
    path = folder / _FILE
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}", hint="name the folder of a plugin's project"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    project = about.get("project", {})
    plugins = project.get("entry-points", {}).get(hookspecs.GROUP, {})
    if not plugins:
        raise InvalidInput(
            f"{path} names no plugin",
            hint=f'write [project.entry-points."{hookspecs.GROUP}"] with a line like acme = "asynchub_acme.plugin"',
        )
    root = folder / "src" if (folder / "src").is_dir() else folder
    distribution = _Unbuilt(project, root)
    points = []
    for name, value in plugins.items():
        point = EntryPoint(name, value, hookspecs.GROUP)
        vars(point).update(dist=distribution)
        points.append(point)
    return Project(folder, root, str(project.get("name", folder.name)), tuple(points))


def with_projects(projects: Sequence[Project]) -> list[EntryPoint]:
    """Every installed plugin, and those of these projects in the place of installed ones of their names.

    The projects' modules are imported from their folders from now on.
    """
    for project in reversed(projects):
        if str(project.root) not in sys.path:
            sys.path.insert(0, str(project.root))
    ours = [point for project in projects for point in project.points]
    names = {point.name for point in ours}
    return [*(point for point in entry_points(group=hookspecs.GROUP) if point.name not in names), *ours]


def load_projects(projects: Sequence[Project], raw_settings: Mapping[str, Any] | None = None) -> Registry:
    """All plugins, those of these projects out of their folders. Raises ``PluginError`` where one of theirs fails."""
    registry = load_plugins(raw_settings, with_projects(projects))
    ours = {point.name for project in projects for point in project.points}
    for report in registry.plugins:
        if report.name in ours and report.error and report.state != "off":
            raise PluginError(report.error)
    return registry


class _Unbuilt(Distribution):
    """A project as if it was installed."""

    def __init__(self, project: Mapping[str, Any], root: Path) -> None:
        self._project = project
        self._root = root

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        extras: Mapping[str, Iterable[str]] = self._project.get("optional-dependencies", {})
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {self._project.get('name', self._root.name)}",
            f"Version: {self._project.get('version', '0')}",
            *(f"Provides-Extra: {extra}" for extra in extras),
            *(f"Requires-Dist: {one}" for one in self._project.get("dependencies", ())),
            *(f'Requires-Dist: {one}; extra == "{extra}"' for extra, some in extras.items() for one in some),
        ]
        return "\n".join(lines) + "\n"

    def locate_file(self, path: Any) -> Any:
        return self._root / path
