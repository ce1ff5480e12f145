"""The OpenAPI document says what is answered."""

from __future__ import annotations

from typing import Any

import jsonschema

from tests.api.conftest import Asking, Serve

_FLOW = (
    b"id: w\nnamespace: q\nnotify: {on: SUCCESS, to: nobody}\ntriggers: [{id: h, type: webhook, key: k}]\n"
    b"tasks: [{id: t, type: log, message: x}]\n"
)
_HOOK = "/api/v1/webhooks/{namespace}/{flow}/{key}"


async def operation(ask: Asking, path: str, method: str = "get") -> Any:
    return (await ask("GET", "/api/v1/openapi.json")).json["paths"][path].get(method)


async def test_every_status_and_media_type_of_an_answer_is_there(serving: Serve) -> None:
    async with serving() as ask:
        put = await operation(ask, "/api/v1/flows/{namespace}/{id}", "put")
        assert {"200", "201", "default"} == set(put["responses"])
        assert {"application/json", "application/yaml"} == set(put["requestBody"]["content"])
        ready = await operation(ask, "/health/ready")
        assert ready["responses"]["503"] == ready["responses"]["200"]
        logs = await operation(ask, "/api/v1/executions/{id}/logs")
        assert {"application/json", "application/jsonl"} == set(logs["responses"]["200"]["content"])
        assert await operation(ask, "/api/v1/openapi.json")
        for method in ("post", "put"):
            assert "*/*" in (await operation(ask, _HOOK, method))["requestBody"]["content"]
        for method in ("patch", "delete"):
            assert await operation(ask, _HOOK, method) is None


async def test_bounds_of_a_number_are_there(serving: Serve) -> None:
    async with serving() as ask:
        [limit] = [
            one
            for one in (await operation(ask, "/api/v1/executions"))["parameters"]
            if one["name"] == "limit"
        ]
        assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000}


async def test_answers_fit_their_schemas(serving: Serve) -> None:
    async with serving() as ask:
        document = (await ask("GET", "/api/v1/openapi.json")).json
        assert (await ask("PUT", "/api/v1/flows/q/w", _FLOW)).status == 201
        delivered = (await ask("POST", "/api/v1/webhooks/q/w/k", {})).json
        id = delivered["executionIds"][0]
        await ask("GET", f"/api/v1/executions/{id}/logs?follow=true")
        [notice] = (await ask("GET", f"/api/v1/notices?execution={id}")).json["items"]
        filled = {"{id}": id, "{namespace}": "q"}
        asked = 0
        for path, operations in document["paths"].items():
            content = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if not schema or "/flows/{namespace}/{id}" in path:
                continue
            address = path
            for name, value in filled.items():
                address = address.replace(name, value)
            if "/events/" in path:
                address = f"/api/v1/events/{delivered['eventId']}"
            if "/notices/" in path:
                address = f"/api/v1/notices/{notice['id']}"
            answer = await ask("GET", address)
            assert answer.status == 200, address
            whole = {**schema, "components": document["components"]}
            assert [e.message for e in jsonschema.Draft202012Validator(whole).iter_errors(answer.json)] == []
            asked += 1
        assert asked >= 10


async def test_a_stream_of_changes_is_asked_for_exactly(serving: Serve) -> None:
    async with serving() as ask:
        for odd in ("٣", "²", "9" * 19, "-1", "x"):
            answer = await ask("GET", "/api/v1/stream", headers={"Last-Event-ID": odd})
            assert answer.status == 422, odd
        head = await ask("HEAD", "/api/v1/stream")
        assert (head.status, head.raw) == (200, b"")
