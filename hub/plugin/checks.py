"""Checks: what ``hub doctor PLUGIN`` asks a plugin to look at, a service that it talks to for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at."""

    check: str
    """What it is, in a word or two."""
    state: Literal["ok", "warn", "fail"]
    found: str
    hint: str | None = None
    """What to do about it."""


Check = Callable[[Any, Callable[[str], Awaitable[str]]], AsyncIterator[Examined]]
"""Given the plugin's settings and what reads a secret by its name; looks, and changes nothing."""
