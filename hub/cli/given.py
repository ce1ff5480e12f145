"""What commands are given: pairs, inputs, JSON; from the command line or from files that it names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` by key."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f'expected KEY=VALUE, got "{text}"', param_hint=option)
        found[name] = value
    return found


def read_inputs(texts: Sequence[str]) -> dict[str, str]:
    """The inputs that ``-i`` gives."""
    return {name: _text(value, "-i") for name, value in pairs(texts, "-i").items()}


def read_json(text: str | None, option: str = "--data") -> Any:
    """The JSON that an option gives, None where it gives none."""
    if text is None:
        return None
    text = _text(text, option)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from error


def _text(value: str, option: str) -> str:
    """A value as given, or what the file holds that ``@FILE`` names; ``@@`` stands for one ``@``."""
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text"
        if not isinstance(error, UnicodeDecodeError):
            reason = getattr(error, "strerror", None) or str(error)
        raise click.BadParameter(f"{value[1:]} cannot be read: {reason}", param_hint=option) from error
