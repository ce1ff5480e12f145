"""One thing that a check found, good or bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at in which plugin, and how it is."""

    plugin: str
    check: str
    """``loads``, ``names``, ``described``, ``examples``, ``blocking`` or ``contracts``."""
    level: Level
    message: str
