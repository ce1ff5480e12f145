"""JSON Schemas of flows and settings as files, and the workspace settings that make an editor use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.config.schema import flow_schema, settings_schema
from hub.errors import InvalidInput
from hub.registry import Registry
from hub.scaffold import jsonc
from hub.scaffold.files import NewFile, Written, read, write_all

FOLDER = ".vscode"
FLOW_SCHEMA = "hub-flow.schema.json"
SETTINGS_SCHEMA = "hub-settings.schema.json"
_SETTINGS = "settings.json"
_SCHEMAS = "yaml.schemas"
_PATTERNS = {FLOW_SCHEMA: "*.hub.yaml", SETTINGS_SCHEMA: "hub.yaml"}


def write_schemas(folder: Path, registry: Registry) -> list[Written]:
    """Write both schemas below ``folder`` and name them in its editor settings, keeping what is there.

    Raises ``InvalidInput`` before anything is written when the editor's settings cannot be read.
    """
    return write_all(editor_files(folder, registry), force=True)


def editor_files(folder: Path, registry: Registry) -> list[NewFile]:
    """What ``write_schemas`` writes. Raises ``InvalidInput``."""
    place = folder / FOLDER
    settings = _settings(place / _SETTINGS)
    texts = {
        FLOW_SCHEMA: schema_text(flow_schema(registry)),
        SETTINGS_SCHEMA: schema_text(settings_schema(registry)),
        _SETTINGS: settings,
    }
    # the schemas are made, never written by hand: a new one takes the old one's place
    return [NewFile(place / name, text, is_addition=True) for name, text in texts.items()]


def schema_text(document: Mapping[str, Any]) -> str:
    """A schema as a file holds it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schema_above(folder: Path) -> Path | None:
    """The flow schema that serves a folder: in it, or in the nearest folder above that has one."""
    for place in (folder.resolve(), *folder.resolve().parents):
        found = place / FOLDER / FLOW_SCHEMA
        if found.is_file():
            return found
    return None


def _settings(path: Path) -> str:
    """The editor's settings with our schemas in them."""
    text = read(path)
    if text is None or not text.strip():
        text = "{}\n"
    try:
        for schema, pattern in _PATTERNS.items():
            name = f"./{FOLDER}/{schema}"
            patterns = _with_pattern(jsonc.read(text).data, name, pattern)
            if patterns is not None:
                text = jsonc.with_member(text, (_SCHEMAS, name), patterns)
    except jsonc.NotJson as error:
        wanted = json.dumps({_SCHEMAS: {f"./{FOLDER}/{s}": [p] for s, p in _PATTERNS.items()}})
        raise InvalidInput(
            f"{path} cannot be read: {error}", hint=f"mend it, or add this to it by hand: {wanted}"
        ) from error
    return text


def _with_pattern(settings: Any, name: str, pattern: str) -> list[Any] | None:
    """The patterns a schema should have, or None when it has them."""
    schemas = settings.get(_SCHEMAS) if isinstance(settings, dict) else None
    given = schemas.get(name, []) if isinstance(schemas, dict) else []
    patterns = given if isinstance(given, list) else [given]
    return None if pattern in patterns else [*patterns, pattern]
