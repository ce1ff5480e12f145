"""What a component's field means to the hub, said in its annotation.

A plain field is rendered before the component runs: text holding ``{{`` is an expression. The markers here
say otherwise::

    script: Script                      # a program's text, never rendered
    tasks: Children                     # child tasks; run them with ctx.run
    cases: Cases                        # child tasks by key
    values: Decided[list[Any]]          # rendered once, stored before use, read on a later walk
    dialect: Static[str] = "unix"       # taken as written
    key: Deferred                       # rendered by the component itself, with ctx.render
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from hub.model.durations import format_duration, parse_duration

T = TypeVar("T")


@dataclass(frozen=True)
class FieldRole:
    """How the hub treats a field's value; see the module's text."""

    name: str


STATIC = FieldRole("static")
SCRIPT = FieldRole("script")
CHILDREN = FieldRole("children")
CASES = FieldRole("cases")
DECIDED = FieldRole("decided")
DEFERRED = FieldRole("deferred")


@dataclass(frozen=True)
class NameOf:
    """A field's value names things that ``hub.yaml`` has: an unknown one is warned about when a flow is saved."""

    section: str


NotifierNames = Annotated[str | list[str], NameOf("notifiers")]
"""One name under ``notifiers:``, or several."""

Static = Annotated[T, STATIC]
Decided = Annotated[T, DECIDED]
Script = Annotated[str, SCRIPT]
Deferred = Annotated[str, DEFERRED]
Children = Annotated[
    tuple[Any, ...],
    CHILDREN,
    # the flow's schema puts its own definition of a task in place of this mark
    WithJsonSchema({"type": "array", "items": {"type": "object", "x-hub": "task"}}),
]

Cases = Annotated[
    dict[str, tuple[Any, ...]],
    CASES,
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "object", "x-hub": "task"}},
        }
    ),
]


def _to_duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = value if abs(value) < 1e9 else 30
        raise ValueError(f"a duration needs a unit: write {shown}s or PT{shown}S")
    if isinstance(value, bool):
        raise ValueError("expected a duration such as PT30S or 30s, got true or false")
    return value


_PART = r"\d+(?:\.\d+)?"
DURATION_PATTERN = (
    rf"^\s*(?:[Pp](?=.*\d)(?:{_PART}[Ww])?(?:{_PART}[Dd])?"
    rf"(?:[Tt](?:{_PART}[Hh])?(?:{_PART}[Mm])?(?:{_PART}[Ss])?)?"
    rf"|(?:{_PART}(?:[Mm][Ss]|[SsMmHhDdWw]))+)\s*$"
)
"""What ``parse_duration`` reads, for schemas."""

Duration = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "examples": ["PT30S", "5m"],
            "description": "ISO 8601 (`PT30S`) or short (`30s`, `5m`, `1h`).",
        }
    ),
]
"""A length of time, written ``PT30S`` or ``30s``."""
