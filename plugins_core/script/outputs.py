"""Outputs of scripts: the file named in ``$HUB_OUTPUT`` and Kestra's ``::{"outputs": {…}}::`` lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hub.plugin import InvalidInput, jsontext

LARGEST = 10 * 1024 * 1024
_LINE = re.compile(r"::(\{.*\})::\s*\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


def outputs_in_line(line: str) -> dict[str, Any] | None:
    """The outputs a line of stdout declares, or None for any other line.

    The form is Kestra's: https://kestra.io/docs/workflow-components/tasks/scripts/outputs-metrics.
    """
    if not line.startswith("::{"):
        return None
    found = _LINE.match(line)
    if found is None:
        return None
    try:
        declared = jsontext.loads_bounded(found.group(1))
    except ValueError:
        return None
    outputs = declared.get("outputs") if isinstance(declared, dict) else None
    return outputs if isinstance(outputs, dict) else None


def read_output_file(path: Path) -> dict[str, Any]:
    """What a script wrote to ``$HUB_OUTPUT``: a JSON object, or ``key=value`` lines.

    Raises ``InvalidInput`` with the line.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidInput(f"$HUB_OUTPUT is larger than {LARGEST // 1024 // 1024} MiB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise InvalidInput("$HUB_OUTPUT is not UTF-8 text") from error
    if text.lstrip().startswith("{"):
        return _json(text)
    return _lines(text)


def _json(text: str) -> dict[str, Any]:
    try:
        found = jsontext.loads_bounded(text)
    except ValueError as error:
        raise InvalidInput(f"$HUB_OUTPUT is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("$HUB_OUTPUT must hold a JSON object")
    return found


def _lines(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.match(name.strip()):
            raise InvalidInput(
                f"$HUB_OUTPUT line {number}: expected key=value, or a JSON object as the whole file"
            )
        found[name.strip()] = value
    return found
