"""Triggers that wait for what happens inside the hub: other flows' ends, events of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.plugin import Event, EventTrigger, ExecutionState

_ENDS = tuple(state.value for state in ExecutionState if state.is_terminal)
_MOST_STARS = 4


class FlowFinished(EventTrigger):
    """Start the flow when executions of other flows end; never by its own."""

    type: ClassVar[str] = "flow.finished"
    event_type: ClassVar[str] = "hub.flow.finished"
    examples: ClassVar[tuple[str, ...]] = (
        "id: after-orders\ntype: flow.finished\nflow: orders\nnamespace: shop.intake\nstates: [SUCCESS, WARNING]",
        "id: anything-failed\ntype: flow.finished\nnamespace: shop.*\nstates: [FAILED]",
    )

    flow: str = Field("*", description="The id of the flow to wait for; `*` stands for any text.")
    namespace: str = Field("*", description="Its namespace; `shop.*` means everything below `shop`.")
    states: list[str] = Field(
        ["SUCCESS", "WARNING"], min_length=1, description="The ends that count: " + ", ".join(_ENDS) + "."
    )
    labels: dict[str, str] = Field({}, description="Labels that the execution must carry.")

    class Data(BaseModel):
        model_config = ConfigDict(extra="forbid")

        executionId: str = Field(description="The execution that ended.")
        namespace: str = Field(description="Its flow's namespace.")
        flowId: str = Field(description="Its flow's id.")
        flowRevision: int = Field(description="Its flow's revision.")
        state: str = Field(description="How it ended.")
        labels: dict[str, Any] = Field(description="Its labels.")
        inputs: dict[str, Any] = Field(description="Its inputs.")
        outputs: dict[str, Any] = Field(description="Its outputs, empty unless it succeeded.")
        error: str | None = Field(None, description="Why it failed.")

    @field_validator("states", mode="before")
    @classmethod
    def _are_ends(cls, value: Any) -> Any:
        if not isinstance(value, list) or any(isinstance(one, str) and "{{" in one for one in value):
            return value
        states = [one.upper() if isinstance(one, str) else one for one in value]
        for state in states:
            if state not in _ENDS:
                raise ValueError(f"expected one of {', '.join(_ENDS)}, got {state}")
        return states

    @field_validator("flow", "namespace")
    @classmethod
    def _has_few_stars(cls, value: str) -> str:
        return _checked(value)

    @property
    def event_types(self) -> Sequence[str]:
        return (self.event_type,)

    def wants(self, event: Event) -> bool:
        found = event.data
        return (
            found["state"] in self.states
            and _matches(self.flow, found["flowId"])
            and _matches(self.namespace, found["namespace"])
            and all(found["labels"].get(name) == value for name, value in self.labels.items())
        )


class EventMatched(EventTrigger):
    """Start the flow for events of a type, wherever they come from."""

    type: ClassVar[str] = "event.matched"
    event_type: ClassVar[str] = "hub.event.matched"
    examples: ClassVar[tuple[str, ...]] = (
        'id: paid\ntype: event.matched\nevent: "shop.order.*"\nwhen: "{{ trigger.data.total > 100 }}"',
    )

    event: str | list[str] = Field(
        description="The CloudEvents type, or several; `*` stands for any text.", min_length=1
    )
    source: str = Field("*", description="The CloudEvents source; `*` stands for any text.")

    class Data(BaseModel):
        """The event as it was stored; with ``data``, for events that carry any."""

        model_config = ConfigDict(extra="allow")

    @field_validator("event")
    @classmethod
    def _has_few_stars(cls, value: str | list[str]) -> str | list[str]:
        for one in [value] if isinstance(value, str) else value:
            _checked(one)
        return value

    @field_validator("source")
    @classmethod
    def _source_has_few_stars(cls, value: str) -> str:
        return _checked(value)

    @property
    def event_types(self) -> Sequence[str]:
        return (self.event,) if isinstance(self.event, str) else self.event

    def wants(self, event: Event) -> bool:
        return _matches(self.source, event.source)


def _checked(pattern: str) -> str:
    if pattern.count("*") > _MOST_STARS:
        raise ValueError(f"at most {_MOST_STARS} * in one pattern")
    return pattern


def _matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is what ``pattern`` says; ``*`` stands for any text."""
    if pattern == "*":
        return True
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    if not text.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(rest[-1]) and text.endswith(rest[-1])
