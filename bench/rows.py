"""What a case is given, and what it gives."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
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


def median(values: Sequence[float]) -> float:
    """The one in the middle: what a busy machine does to a few of them does not show."""
    return statistics.median(values)
