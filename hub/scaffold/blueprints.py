"""Blueprints: ready flows that a user copies and makes their own.

A blueprint is a folder with a ``README.md`` and one or more ``*.hub.yaml``; its title is the README's first
line, its summary the first flow's ``description``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.config import yaml
from hub.config.secrets import secrets_named
from hub.errors import InvalidInput, NotFound, did_you_mean
from hub.model.ids import FlowKey, is_id, is_namespace
from hub.scaffold.editor import schema_above
from hub.scaffold.files import NewFile, Written, read, write_all
from hub.scaffold.sources import renamed, with_schema_line

SUFFIX = ".hub.yaml"


@dataclass(frozen=True)
class BlueprintFlow:
    """One flow of a blueprint."""

    file: str
    source: str
    key: FlowKey
    description: str | None
    triggers: tuple[str, ...]
    """The types of its triggers."""
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Blueprint:
    """A folder of ready flows."""

    name: str
    folder: Path
    readme: str
    flows: tuple[BlueprintFlow, ...]

    @property
    def title(self) -> str:
        """The README's first line."""
        first = next((line.strip() for line in self.readme.splitlines() if line.strip()), "")
        return first.lstrip("#").strip() or self.name

    @property
    def summary(self) -> str:
        return next((flow.description for flow in self.flows if flow.description), self.title)

    @property
    def triggers(self) -> list[str]:
        return list(dict.fromkeys(one for flow in self.flows for one in flow.triggers))

    @property
    def secrets(self) -> list[str]:
        return sorted({name for flow in self.flows for name in flow.secrets})


def blueprints_folder() -> Path:
    """Where the blueprints are: in the installed package, else in the checkout around it."""
    import hub

    package = Path(hub.__file__).parent
    installed = package / "_blueprints"
    return installed if installed.is_dir() else package.parent / "blueprints"


def read_blueprints(folder: Path) -> list[Blueprint]:
    """Every blueprint below a folder, by name."""
    if not folder.is_dir():
        raise NotFound(f"there are no blueprints: {folder} does not exist")
    return [_read(path) for path in sorted(folder.iterdir()) if _is_blueprint(path)]


def find_blueprint(name: str, folder: Path) -> Blueprint:
    """A blueprint by its name, or by the path of its folder. Raises ``NotFound`` with a near name."""
    if is_id(name) and _is_blueprint(folder / name):
        return _read(folder / name)
    if ("/" in name or name == ".") and _is_blueprint(Path(name)):
        return _read(Path(name))
    names = [path.name for path in folder.iterdir() if _is_blueprint(path)] if folder.is_dir() else []
    raise NotFound(
        f'no blueprint "{name}"',
        hint=did_you_mean(name, names)
        or "hub blueprints list shows them; a path to a folder of your own works too",
    )


def use_blueprint(
    blueprint: Blueprint,
    into: Path,
    *,
    id: str | None = None,
    namespace: str | None = None,
    force: bool = False,
) -> list[Written]:
    """Copy a blueprint's flows into a folder, under another name where one is given.

    Raises ``InvalidInput`` for a name that cannot be, ``Conflict`` for a file that exists.
    """
    if id is not None and len(blueprint.flows) > 1:
        ids = ", ".join(flow.key.id for flow in blueprint.flows)
        raise InvalidInput(
            f'"{blueprint.name}" has {len(blueprint.flows)} flows ({ids}); one id cannot name them all',
            hint="leave --id out and change the ids in the files, or give only --namespace",
        )
    if id is not None and not is_id(id):
        raise InvalidInput(
            f'"{id}" cannot be an id', hint="letters, digits, - and _, beginning with a letter or digit"
        )
    if namespace is not None and not is_namespace(namespace):
        raise InvalidInput(
            f'"{namespace}" cannot be a namespace', hint="names of letters, digits, - and _ joined by dots"
        )
    names = {
        flow.key: FlowKey(namespace or flow.key.namespace, id or flow.key.id) for flow in blueprint.flows
    }
    files = []
    for flow in blueprint.flows:
        path = into / (f"{id}{SUFFIX}" if id else flow.file)
        source = renamed(flow.source, names)
        schema = schema_above(into)
        files.append(NewFile(path, with_schema_line(source, path, schema) if schema else source))
    return write_all(files, force=force)


def _is_blueprint(path: Path) -> bool:
    return path.is_dir() and (path / "README.md").is_file() and any(path.glob(f"*{SUFFIX}"))


def _read(folder: Path) -> Blueprint:
    flows = tuple(_read_flow(path) for path in _flow_files(folder))
    return Blueprint(folder.resolve().name, folder, read(folder / "README.md") or "", flows)


def _flow_files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())


def _read_flow(path: Path) -> BlueprintFlow:
    source = read(path) or ""
    data = yaml.parse(source, str(path)).root.plain()
    if not isinstance(data, dict) or not {"id", "namespace"} <= data.keys():
        raise InvalidInput(f"{path} is no flow: it has no id and namespace")
    return BlueprintFlow(
        file=path.name,
        source=source,
        key=FlowKey(str(data["namespace"]), str(data["id"])),
        description=data.get("description"),
        triggers=tuple(_types(data.get("triggers"))),
        secrets=tuple(secrets_named(data)),
    )


def _types(triggers: Any) -> list[str]:
    found = triggers if isinstance(triggers, list) else []
    return [str(one["type"]) for one in found if isinstance(one, dict) and "type" in one]
