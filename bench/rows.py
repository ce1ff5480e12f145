"""What a case is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; ``aim`` says what ``ratio`` should be."""

    case: str
    what: str
    hub: float
    bare: float | None
    unit: str
    ratio: float | None = None
    aim: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class Options:
    command: str
    rounds: int
    quick: bool
