"""A new project: settings, a first flow that runs by itself, secrets, a pipeline, and what an editor needs.

The files lie in ``hub/_project`` under names of their own: a ``.gitignore`` or ``secrets.env`` there would
work on this repository. What people add lines to (``.gitignore``, ``secrets.env``, the editor's settings) is
added to, never replaced.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from hub.config import yaml
from hub.errors import Conflict, InvalidInput
from hub.model.ids import MAX_NAMESPACE_LENGTH, FlowKey, is_namespace
from hub.registry import Registry
from hub.scaffold.editor import FLOW_SCHEMA, FOLDER, editor_files
from hub.scaffold.files import PRIVATE, NewFile, Written, read, write_all
from hub.scaffold.sources import renamed, with_schema_line

FIRST_FLOW = "first"
FIRST_SECRET = "FIRST_KEY"  # noqa: S105 - the name of a secret
_FLOW_FILE = f"flows/{FIRST_FLOW}.hub.yaml"
_FILES = {
    "hub.yaml": "hub.yaml",
    "first.hub.yaml": _FLOW_FILE,
    "validate.yml": ".github/workflows/flows.yml",
    "README.md": "README.md",
}
"""What is written once: the template's name and the file's."""


def write_project(
    folder: Path, *, namespace: str | None, registry: Registry, force: bool = False
) -> list[Written]:
    """Write a project into a folder, which is made when missing.

    Raises ``InvalidInput`` for a namespace that cannot be, ``Conflict`` before anything is written where a
    file exists and ``force`` is not set.
    """
    namespace = namespace or namespace_for(folder)
    if not is_namespace(namespace):
        raise InvalidInput(
            f'"{namespace}" cannot be a namespace', hint="names of letters, digits, - and _ joined by dots"
        )
    if folder.exists() and not folder.is_dir():
        raise Conflict(f"{folder} is a file", hint="name a folder; it need not exist")
    files = [NewFile(folder / target, _template(name)) for name, target in _FILES.items()]
    files = [_made_own(file, folder, namespace) for file in files]
    added = [_ignoring(folder / ".gitignore"), _with_secret(folder / "secrets.env")]
    return write_all([*files, *added, *editor_files(folder, registry)], force=force)


def namespace_for(folder: Path) -> str:
    """A namespace out of a folder's name: ``My shop!`` gives ``My-shop``."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name)
    parts = [part.strip("-_") for part in name.split(".")]
    found = ".".join(part for part in parts if part)[:MAX_NAMESPACE_LENGTH].strip("-_.")
    return found or "mine"


def _template(name: str) -> str:
    return (resources.files("hub") / "_project" / name).read_text("utf-8")


def _made_own(file: NewFile, folder: Path, namespace: str) -> NewFile:
    """A template's text with the project's own names in it."""
    if file.path == folder / _FLOW_FILE:
        old = yaml.parse(file.text).root.plain()
        key = FlowKey(old["namespace"], old["id"])
        source = renamed(file.text, {key: key._replace(namespace=namespace)})
        return NewFile(file.path, with_schema_line(source, file.path, folder / FOLDER / FLOW_SCHEMA))
    if file.path.name == "README.md":
        text = file.text.replace("NAMESPACE", namespace).replace("PROJECT", folder.resolve().name)
        return NewFile(file.path, text)
    return file


def _ignoring(path: Path) -> NewFile:
    """A ``.gitignore`` with every line of ours."""
    before = read(path) or ""
    there = {line.strip() for line in before.splitlines()}
    missing = [line for line in _template("gitignore").splitlines() if line not in there]
    if all(line.startswith("#") for line in missing):
        missing = []
    return NewFile(path, _joined(before, missing), is_addition=True)


def _with_secret(path: Path) -> NewFile:
    """A ``secrets.env`` with a value for the first flow's webhook."""
    before = read(path) or ""
    lines = [] if before else _template("secrets.txt").splitlines()
    if not re.search(rf"^\s*(?:export )?{FIRST_SECRET}\s*=", before, re.M):
        lines.append(f"{FIRST_SECRET}={secrets.token_urlsafe(18)}")
    return NewFile(path, _joined(before, lines), PRIVATE, is_addition=True)


def _joined(before: str, lines: Sequence[str]) -> str:
    if not lines:
        return before
    if before and not before.endswith("\n"):
        before += "\n"
    return before + "\n".join(lines) + "\n"
