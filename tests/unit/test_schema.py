"""The JSON Schema of flow files agrees with the loader on what a flow is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from hub.config.flows import load_flow
from hub.config.schema import flow_schema
from hub.errors import InvalidFlow
from hub.expressions import builtin_functions
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


_REGISTRY = load_plugins({})
_FUNCTIONS = builtin_functions(lambda: datetime.now(UTC)).with_functions(_REGISTRY.functions)
_SCHEMA = jsonschema.Draft202012Validator(flow_schema(_REGISTRY))
_LOG = {"id": "t", "type": "log", "message": "x"}


def flow(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "namespace": "n", "variables": {"n": 1}, "tasks": [_LOG], **fields}


def task(**fields: Any) -> dict[str, Any]:
    return flow(tasks=[{"id": "t", **fields}])


def hook(**fields: Any) -> dict[str, Any]:
    return flow(triggers=[{"id": "h", "type": "webhook", "key": "k", **fields}])


def cron(**fields: Any) -> dict[str, Any]:
    return flow(triggers=[{"id": "c", "type": "schedule.cron", "cron": "* * * * *", **fields}])


def loads(document: dict[str, Any]) -> bool:
    try:
        load_flow(json.dumps(document), registry=_REGISTRY, functions=_FUNCTIONS)
    except InvalidFlow:
        return False
    return True


@pytest.mark.parametrize(
    "document",
    [
        flow(),
        flow(id=5, namespace=1.5, description=None),
        flow(concurrency={"limit": 1, "behavior": "queue"}),
        flow(concurrency={"limit": 1_000_000}),
        flow(inputs=[{"id": "a", "type": "string"}, {"id": "b", "type": "Select", "values": [1, "x"]}]),
        flow(labels={"a": 1, "b": True}),
        flow(outputs=[{"id": "o", "type": "int", "value": 1}]),
        flow(errors=[], **{"finally": []}),
        task(type="log", message=5),
        task(type="log", message=[1, True], level="info"),
        task(type="log", message="x", timeout="30s", when=True, description=5),
        task(type="log", message="x", timeout="{{ vars.n }}s"),
        task(type="log", message="x", retry={"type": "EXPONENTIAL", "interval": "pt1s", "maxAttempts": 5}),
        task(type="http.request", uri="http://x", method="post", headers={"A": 1}),
        task(type="http.request", uri="http://x", method="{{ vars.n }}"),
        task(type="script.shell", script="x", env={"A": 1, "B": True}),
        task(type="script.shell", script="x", env="{{ vars }}"),
        task(
            type="flow.loop",
            values="{{ vars.n }}",
            concurrencyLimit="{{ vars.n }}",
            tasks=[_LOG | {"id": "u"}],
        ),
        task(type="flow.if", condition=True, then=[_LOG | {"id": "u"}], **{"else": []}),
        hook(methods=["post", "Put"]),
        hook(verify={"scheme": "HMAC", "algorithm": "SHA256", "encoding": "Base64", "secret": 5}),
        hook(rateLimit={"limit": "{{ vars.n }}", "per": "1h30m"}),
        hook(dedup={"key": "{{ trigger.body.id }}", "window": "P1DT2H"}),
        cron(missed="LAST"),
    ],
    ids=lambda document: json.dumps(document)[32:120],
)
def test_what_the_hub_takes_the_schema_takes(document: dict[str, Any]) -> None:
    assert loads(document)
    assert [error.message for error in _SCHEMA.iter_errors(document)] == []


@pytest.mark.parametrize(
    "document",
    [
        flow(namespace="a..b"),
        flow(namespace="a b"),
        flow(id="a b"),
        flow(id=-1),
        flow(tasks=[]),
        flow(tsks=[]),
        flow(triggers=None),
        flow(disabled="yes"),
        flow(labels={"a": None}),
        flow(concurrency={"limit": 1, "behavior": "queues"}),
        flow(concurrency={"limit": 1_000_001}),
        flow(inputs=[{"id": "a", "type": "SELECT"}]),
        flow(inputs=[{"id": "a", "type": "select", "values": []}]),
        flow(inputs=[{"id": "a", "type": "TEXT"}]),
        task(type="log", message="x", timeout="soon"),
        task(type="log", message="x", timeout="PT"),
        task(type="log", message="x", timeout=30),
        task(type="log", message="x", retry={"type": "sometimes", "interval": "PT1S"}),
        task(type="http.request", uri="http://x", method="FETCH"),
        task(type="flow.if", condition=True, then=[]),
        task(type="flow.if", condition=True, then="{{ vars.n }}"),
        task(type="flow.loop", values=[1], tasks=[]),
        hook(methods=["PATCH"]),
        hook(methods=[]),
        hook(verify={"scheme": "x", "secret": "s"}),
        hook(dedup={"key": "{{ trigger.body.id }}", "window": "soon"}),
        cron(missed="often"),
        flow(triggers=[{"id": "c", "type": "schedule.every", "interval": "x"}]),
    ],
    ids=lambda document: json.dumps(document)[32:120],
)
def test_what_the_hub_refuses_the_schema_refuses(document: dict[str, Any]) -> None:
    assert not loads(document)
    assert list(_SCHEMA.iter_errors(document))


def test_the_schema_is_one_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(flow_schema(_REGISTRY))


def test_words_in_either_case_mean_the_same() -> None:
    webhook = _REGISTRY.triggers["webhook"]
    lower = webhook.model_validate(
        {"key": "k", "methods": ["post"], "verify": {"scheme": "GitHub", "secret": "s"}}
    )
    upper = webhook.model_validate(
        {"key": "k", "methods": ["POST"], "verify": {"scheme": "github", "secret": "s"}}
    )
    assert lower.model_dump() == upper.model_dump()
