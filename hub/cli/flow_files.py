"""Flow files on this side: which are meant, whether they may be saved, what each declares.

Called by ``validate`` and by the commands of ``flows`` that compare files with a hub.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.errors import InvalidFlow, InvalidSettings
from hub.model.ids import FlowKey

if TYPE_CHECKING:
    from hub.config.lint import LintReport

FOLDER = Path("flows")
"""Where flows are unless somebody says otherwise."""


@dataclass(frozen=True)
class FlowFile:
    """A file that declares a flow."""

    key: FlowKey
    path: Path
    source: bytes


def check_files(paths: Sequence[Path], task_folders: Sequence[Path] = ()) -> LintReport:
    """Every finding of the files and folders; without any, of ./flows, else of the current folder.

    Needs no hub. A ``tasks.py`` in ``task_folders`` is run, to know its tasks. Raises ``NotFound`` for a path that
    holds no flow.
    """
    from datetime import UTC, datetime

    from hub.config.lint import flow_files, lint_files
    from hub.expressions import builtin_functions
    from hub.registry import load_plugins
    from hub.registry.local import with_local_tasks

    files = flow_files(list(paths) or [FOLDER if FOLDER.is_dir() else Path(".")])
    registry = with_local_tasks(load_plugins({}), task_folders)
    names = _notifier_names()
    if names is not None:
        registry = registry.with_notifier_names(names)
    functions = builtin_functions(lambda: datetime.now(UTC)).with_functions(registry.functions)
    return lint_files(files, registry, functions)


def _notifier_names() -> Collection[str] | None:
    """The names under ``notifiers:`` in this folder's ``hub.yaml``; None where there is none that can be read."""
    from hub.config.settings import FILE_NAME, load_settings

    if not Path(FILE_NAME).is_file():
        return None
    try:
        return load_settings(os.environ, folder=Path.cwd()).settings.notifiers
    except InvalidSettings:
        return None  # what is wrong with it is another command's to say


def read_flow_files(paths: Sequence[Path]) -> list[FlowFile]:
    """The flows of the files, by name. Ends the command with every finding when one of them has an error."""
    from hub.cli.failures import INVALID
    from hub.config.text import render_problem

    report = check_files(paths)
    if report.errors:
        for problem in report.problems:
            click.echo(render_problem(problem, report.sources.get(problem.file or "")), err=True)
        click.echo(f"{counted(report.errors, 'error')}: the hub was not asked", err=True)
        raise click.exceptions.Exit(INVALID)
    return [
        FlowFile(key, Path(file), report.sources[file].encode())
        for key, file in sorted(report.owners.items())
    ]


def declared_in(folder: Path) -> dict[FlowKey, Path]:
    """The files below a folder by the flow that each names, whatever else is wrong with it."""
    from hub.config import yaml
    from hub.config.lint import SUFFIX

    found: dict[FlowKey, Path] = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        try:
            root = yaml.parse(path.read_bytes().decode("utf-8")).root
        except (OSError, UnicodeDecodeError, InvalidFlow):
            continue
        namespace, id = root.get("namespace"), root.get("id")
        if namespace is not None and id is not None:
            found.setdefault(FlowKey(str(namespace.value), str(id.value)), path)
    return found


def counted(number: int, word: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {word}{'s' if number != 1 else ''}"
