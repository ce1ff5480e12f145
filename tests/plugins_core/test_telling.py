"""``json.validate`` and ``notify``."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidFlow
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRun
from hub.testing import Harness, harness
from plugins_core.core import validation

_ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}, "items": {"type": "array", "items": {"type": "number"}}},
    "additionalProperties": False,
}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path) as hub:
        yield hub


async def check(hub: Harness, schema: Any, value: Any, **more: Any) -> TaskRun:
    task = {"id": "check", "type": "json.validate", "schema": schema, "value": "{{ inputs.value }}", **more}
    await hub.put(
        json.dumps(
            {"id": "v", "namespace": "t", "inputs": [{"id": "value", "type": "JSON"}], "tasks": [task]}
        )
    )
    ended = await hub.run("t/v", {"value": value})
    return (await hub.task_runs(ended.id))["check"]


async def test_data_that_fits_passes(hub: Harness) -> None:
    run = await check(hub, _ORDER, {"id": 2**70, "items": [1, 2.5]})
    assert (run.state, run.outputs) == ("SUCCESS", {"valid": True, "errors": []})


async def test_data_that_does_not_fit_fails_with_places_and_reasons(hub: Harness) -> None:
    run = await check(hub, _ORDER, {"id": "x", "items": [1, "two"], "more": 1})
    assert run.state == "FAILED"
    assert run.error is not None
    assert "$.id: 'x' is not of type 'integer'" in run.error
    assert run.outputs is not None
    assert [one["path"] for one in run.outputs["errors"]] == ["$", "$.id", "$.items[1]"]


async def test_a_flow_may_decide_for_itself(hub: Harness) -> None:
    run = await check(hub, _ORDER, {}, failOnError=False)
    assert run.state == "SUCCESS"
    assert run.outputs == {
        "valid": False,
        "errors": [{"path": "$", "message": "'id' is a required property"}],
    }


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strng"}, "'strng' is not valid under any of the given schemas"),
        ({"properties": {"a": {"minimum": "1"}}}, "'1' is not of type 'number'"),
        ({"$schema": "https://example.test/mine"}, '"$schema" names no draft that is known here'),
    ],
)
async def test_a_schema_that_is_none_is_found_when_the_flow_is_saved(
    hub: Harness, schema: Any, words: str
) -> None:
    with pytest.raises(InvalidFlow) as caught:
        await check(hub, schema, {})
    assert words in caught.value.problems[0].message


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-04/schema#", "https://json-schema.org/draft/2020-12/schema"]
)
async def test_drafts_are_known_by_their_names(hub: Harness, draft: str) -> None:
    schema = {"$schema": draft, "type": "number", "maximum": 5}
    assert (await check(hub, schema, 5)).state == "SUCCESS"


async def test_references_stay_inside_and_nothing_is_fetched(hub: Harness) -> None:
    tree = {
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}, "type": "object"}},
        "$ref": "#/$defs/node",
    }
    data: dict[str, Any] = {}
    for _ in range(150):
        data = {"next": data}
    assert (await check(hub, tree, data)).state == "SUCCESS"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        run = await check(hub, {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/x.json"}, {})
        assert run.error is not None
        assert "it refers to what it does not hold" in run.error
        with pytest.raises(BlockingIOError):
            server.accept()
    endless = await check(hub, {"$ref": "#"}, {})
    assert endless.error is not None
    assert "too deep" in endless.error


async def test_a_pattern_that_takes_for_ever_is_ended_at_the_limit(hub: Harness) -> None:
    run = await check(hub, {"pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!"), limit="1s")
    assert run.error is not None
    assert "checking took longer than 1 s" in run.error


async def test_a_check_that_is_killed_leaves_no_process(hub: Harness) -> None:
    await hub.put(
        "id: v\nnamespace: t\ntasks: [{id: c, type: json.validate, limit: 1h, schema: {pattern: '^(a+)+$'}, "
        f"value: '{'a' * 60}!'}}]"
    )
    with hub.node.services.bus.subscribe("taskRun", "execution") as news:
        started = await hub.start("t/v")
        while (await news.next()).details.get("state") != "RUNNING":
            pass
    await hub.node.kill(started.id)
    assert (await hub.ended(started.id)).state is ExecutionState.KILLED
    mine = [path for path in Path("/proc").glob("[0-9]*/cmdline") if validation.__file__ in _text(path)]
    assert mine == []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


async def test_much_data_is_checked_beside_the_hub(hub: Harness) -> None:
    data = [{"n": n} for n in range(8000)]
    schema = {"items": {"properties": {"n": {"maximum": 7998}}}, "uniqueItems": True}
    assert not validation.is_quick(schema, data)
    run = await check(hub, schema, data, failOnError=False)
    assert run.outputs == {
        "valid": False,
        "errors": [{"path": "$[7999].n", "message": "7999 is greater than the maximum of 7998"}],
    }


def test_items_are_unique_as_json_sees_them() -> None:
    def is_unique(*items: Any) -> bool:
        return validation.errors_of({"uniqueItems": True}, list(items)) == []

    assert is_unique(1, True, "1", [1], {"a": 1}, None, 0, False)
    for same in ((1, 1.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([True], [True]), (None, None)):
        assert not is_unique(*same)
    assert is_unique([1], [True])


async def test_a_notification_is_a_line_of_the_log(hub: Harness) -> None:
    await hub.put(
        "id: n\nnamespace: t\ntasks:\n"
        "  - {id: a, type: notify, to: oncall, subject: stock, message: '{{ 1 + 1 }} left', level: warn}\n"
        "  - {id: b, type: notify, to: [me, you], message: {a: 1}}\n"
    )
    ended = await hub.run("t/n")
    assert [(line.level, line.message) for line in await hub.logs(ended.id)] == [
        ("WARN", "to oncall: stock: 2 left"),
        ("INFO", 'to me, you: {"a":1}'),
    ]
