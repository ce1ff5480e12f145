"""Outputs of scripts: the file named in ``$HUB_OUTPUT`` and Kestra's ``::{"outputs": {…}}::`` lines."""

from __future__ import annotations

import errno
import os
import re
import stat
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
        text = _content(path).decode("utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise InvalidInput("$HUB_OUTPUT is not UTF-8 text") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInput("$HUB_OUTPUT is a symbolic link: write into the file itself") from error
        raise InvalidInput(f"$HUB_OUTPUT cannot be read: {error.strerror}") from error
    if text.lstrip().startswith("{"):
        return _json(text)
    return _lines(text)


def _content(path: Path) -> bytes:
    """The bytes of a small regular file; what only looks like one (a pipe, a device) is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput("$HUB_OUTPUT is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise InvalidInput(f"$HUB_OUTPUT is larger than {LARGEST // 1024 // 1024} MiB")
    return content


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
    for number, line in enumerate(text.split("\n"), start=1):
        # only the end of a line ends it: a value may hold form feeds and other characters that look like one
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.match(name.strip()):
            raise InvalidInput(
                f"$HUB_OUTPUT line {number}: expected key=value, or a JSON object as the whole file"
            )
        found[name.strip()] = value
    return found
