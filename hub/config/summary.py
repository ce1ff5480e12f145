"""What must be known of a flow without reading its source: kept beside it in the storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.model.flow import Flow, TriggerDeclaration


def flow_summary(flow: Flow) -> dict[str, Any]:
    """A flow's description, labels, triggers (and those without a ``when``) and its tasks' types, as plain data."""
    summary: dict[str, Any] = {
        "triggers": [_trigger(trigger) for trigger in flow.triggers],
        "taskTypes": sorted({task.type for task in flow.walk()}),
    }
    always = [trigger.id for trigger in flow.triggers if trigger.when in (None, True)]
    if always:
        summary["always"] = always
    if flow.description:
        summary["description"] = flow.description
    if flow.labels:
        summary["labels"] = dict(flow.labels)
    return summary


def _trigger(trigger: TriggerDeclaration) -> dict[str, Any]:
    kept: dict[str, Any] = {"id": trigger.id, "type": trigger.type}
    if trigger.properties:
        kept["properties"] = trigger.properties
    if trigger.disabled:
        kept["disabled"] = True
    return kept


def always_of(summary: Mapping[str, Any]) -> tuple[TriggerDeclaration, ...]:
    """The triggers of a summary whose ``when`` never refuses, as far as that was noted."""
    always = summary.get("always", ())
    return tuple(trigger for trigger in triggers_of(summary) if trigger.id in always)


def types_of(summary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Every type that a flow needs, each with its kind, ``task`` or ``trigger``."""
    triggers = sorted({kept["type"] for kept in summary.get("triggers", ())})
    return (
        *(("task", name) for name in summary.get("taskTypes", ())),
        *(("trigger", name) for name in triggers),
    )


def triggers_of(summary: Mapping[str, Any]) -> tuple[TriggerDeclaration, ...]:
    """The triggers of a summary, as far as running them needs."""
    return tuple(
        TriggerDeclaration(
            id=kept["id"],
            type=kept["type"],
            properties=kept.get("properties", {}),
            disabled=kept.get("disabled", False),
        )
        for kept in summary.get("triggers", ())
    )
