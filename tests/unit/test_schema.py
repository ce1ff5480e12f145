"""The JSON Schema of flow files agrees with the loader on what a flow is."""

from __future__ import annotations

import json

from hub.config.schema import flow_schema
from hub.registry import load_plugins


def test_every_reference_leads_to_a_definition() -> None:
    schema = flow_schema(load_plugins({}))
    text = json.dumps(schema)

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [one for item in value.values() for one in references(item)]
        if isinstance(value, list):
            return [one for item in value for one in references(item)]
        return []

    assert "#/$defs/Task" in text
    for reference in references(schema):
        place: object = schema
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            assert step in place, reference
            place = place[step]


def test_every_task_and_trigger_is_described() -> None:
    registry = load_plugins({})
    definitions = flow_schema(registry)["$defs"]
    for name in registry.tasks:
        assert definitions[f"task.{name}"]["properties"]
    for name in registry.triggers:
        assert definitions[f"trigger.{name}"]["properties"]
