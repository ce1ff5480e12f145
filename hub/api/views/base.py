"""What every answer is: JSON in camelCase, with secrets masked. The views themselves are beside it, by resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

_MADE_BY_HUB = frozenset(
    [
        "id",
        "number",
        "time",
        "level",
        "state",
        "revision",
        "attempt",
        "attempts",
        "depth",
        "repeats",
        "restarts",
        "total",
        "execution_id",
        "event_id",
        "parent_id",
        "replay_of",
        "created_at",
        "started_at",
        "ended_at",
        "updated_at",
        "received_at",
        "due_at",
        "settled_at",
        "delivery_id",
        "wake_at",
        "next_cursor",
        "next_after",
        "task_runs_cursor",
    ]
)
"""Fields that hold ids, moments and counts of the hub's own making; a secret that looks like one stays there."""


class View(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)

    def masked(self, mask: Callable[[Any], Any]) -> dict[str, Any]:
        """The view as JSON data, with ``mask`` over everything that the hub did not make itself."""
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, View):
                value = value.masked(mask)
            elif isinstance(value, list) and value and isinstance(value[0], View):
                value = [one.masked(mask) for one in value]
            elif name not in _MADE_BY_HUB:
                value = mask(value)
            found[field.alias or name] = value
        return found


Label = Annotated[str, StringConstraints(max_length=1000)]


OMITTED: Any = Field({}, description="What is left out, by its name, and why: too large for a list, or gone.")


class ErrorView(View):
    """Every error's shape."""

    code: str
    message: str
    hint: str | None = None
    details: Any = None
