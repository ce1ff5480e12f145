"""Lists stay small whatever was stored; one thing alone is shown whole; what is gone spoils nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.api.lists import LIST_BYTES, TASK_RUN_BYTES
from tests.api.conftest import Asking, Serve

_FLOW = """id: w
namespace: q
inputs: [{id: j, type: JSON, required: false}, {id: v, type: JSON, defaults: []}]
triggers: [{id: h, type: webhook, key: k}]
tasks:
  - {id: made, type: return, value: "{{ trigger.body ?? 'nothing' }}"}
  - id: each
    type: flow.loop
    values: "{{ inputs.v }}"
    tasks: [{id: large, type: return, value: "{{ inputs.j }}"}]
outputs: [{id: o, type: JSON, value: "{{ trigger.body ?? 'nothing' }}"}]
"""


async def deliver(ask: Asking, size: int) -> tuple[str, str]:
    """An event whose body is a text of this size, and its execution, which has ended."""
    answer = await ask("POST", "/api/v1/webhooks/q/w/k", b"x" * size, {"Content-Type": "text/plain"})
    assert answer.status == 202, answer.raw
    [execution] = answer.json["executionIds"]
    await ended(ask, execution)
    return answer.json["eventId"], execution


async def ended(ask: Asking, execution: str) -> None:
    await ask("GET", f"/api/v1/executions/{execution}/logs?follow=true")


@pytest.fixture(params=["memory:", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}" if request.param == "sqlite" else request.param


async def test_a_list_carries_no_more_than_a_reader_can_want(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await ask.node.catalog.put(_FLOW)
        for _ in range(60):
            await deliver(ask, 60_000)
        for place, field in (("events", "data"), ("executions", "outputs")):
            answer = await ask("GET", f"/api/v1/{place}?limit=1000")
            assert len(answer.raw) < LIST_BYTES + 100_000
            items = answer.json["items"]
            assert len(items) == 60
            assert items[0][field] is not None
            assert items[0]["omitted"] == {}
            assert items[-1][field] is None
            reason = items[-1]["omitted"][field]
            assert "bytes, too many for a list" in reason
            whole = (await ask("GET", reason.partition("read ")[2])).json
            assert len(json.dumps(whole[field])) > 60_000
            assert whole["omitted"] == {}


async def test_a_page_is_cut_where_it_should_be_however_it_was_read(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await ask.node.catalog.put(_FLOW)
        for _ in range(120):
            await deliver(ask, 1)
        first = (await ask("GET", "/api/v1/events?limit=110")).json
        rest = (await ask("GET", f"/api/v1/events?limit=110&cursor={first['nextCursor']}")).json
        ids = [one["id"] for one in (*first["items"], *rest["items"])]
        assert (len(first["items"]), len(set(ids)), rest["nextCursor"]) == (110, 120, None)
        counted = (await ask("GET", "/api/v1/executions?limit=110&count=true")).json
        assert (len(counted["items"]), counted["total"]) == (110, 120)


async def test_a_payload_that_was_put_away_is_not_fetched_for_a_list(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        event, execution = await deliver(ask, 100_000)
        [listed] = (await ask("GET", "/api/v1/events")).json["items"]
        assert listed["data"] is None
        assert "100," in listed["omitted"]["data"]
        assert len((await ask("GET", f"/api/v1/events/{event}")).json["data"]["body"]) == 100_000
        seen = (await ask("GET", f"/api/v1/executions/{execution}")).json
        assert len(seen["trigger"]["body"]) == len(seen["outputs"]["o"]) == 100_000


async def test_a_payload_whose_file_is_gone_spoils_nothing_else(serving: Serve, tmp_path: Path) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        event, execution = await deliver(ask, 100_000)
        files = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
        assert files
        for path in files:
            path.unlink()
        seen = await ask("GET", f"/api/v1/events/{event}")
        assert (seen.status, seen.json["data"]) == (200, None)
        assert "any more" in seen.json["omitted"]["data"]
        shown = await ask("GET", f"/api/v1/executions/{execution}")
        assert (shown.status, shown.json["state"]) == (200, "SUCCESS")
        assert set(shown.json["omitted"]) == {"trigger", "outputs"}
        assert "any more" in shown.json["taskRuns"][0]["omitted"]["outputs"]
        for path_ in ("events", "executions", f"executions/{execution}/taskRuns"):
            assert (await ask("GET", f"/api/v1/{path_}")).status == 200
        stream = await ask("GET", f"/api/v1/executions/{execution}/stream")
        assert json.loads(stream.raw.splitlines()[-1])["execution"]["state"] == "SUCCESS"


async def test_task_runs_beyond_the_measure_are_read_one_by_one(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        inputs = {"v": list(range(12)), "j": ["x" * 500_000]}
        started = await ask("POST", "/api/v1/flows/q/w/executions", {"inputs": inputs})
        assert started.status == 201, started.raw
        id = started.json["id"]
        await ended(ask, id)
        answer = await ask("GET", f"/api/v1/executions/{id}/taskRuns")
        assert len(answer.raw) < TASK_RUN_BYTES + 100_000
        left_out = [run for run in answer.json["items"] if run["omitted"]]
        assert left_out
        assert "limit=1" in left_out[0]["omitted"]["outputs"]
        found: list[Any] = []
        cursor = ""
        while True:
            page = (await ask("GET", f"/api/v1/executions/{id}/taskRuns?limit=1{cursor}")).json
            found += page["items"]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        assert (
            sum(len(run["outputs"]["value"][0]) == 500_000 for run in found if run["task"] == "large") == 12
        )


async def test_data_that_looks_like_a_reference_is_only_data(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put("id: m\nnamespace: q\ntasks: [{id: t, type: return, value: 1}]\n")
        for forged in ({"$payload": 5}, {"$payload": "hub:///../hub.db", "size": 5}):
            started = await ask("POST", "/api/v1/flows/q/m/executions", {"data": forged})
            assert started.status == 201, started.raw
            assert started.json["trigger"] == forged
            assert (await ask("GET", "/api/v1/events")).json["items"][0]["data"] == forged


async def test_labels_of_a_start_are_bounded(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        for labels in ({"a": "x" * 1001}, {f"l{n}": "x" for n in range(65)}):
            answer = await ask("POST", "/api/v1/flows/q/w/executions", {"labels": labels})
            assert (answer.status, len(answer.raw) < 500) == (422, True)


async def test_an_event_is_one_of_cloud_events(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        event, _ = await deliver(ask, 1)
        assert (await ask("GET", f"/api/v1/events/{event}")).json["specversion"] == "1.0"


async def test_what_the_file_store_cannot_keep_is_sent_again(serving: Serve, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        body = b'"' + b"x" * 100_000 + b'"'
        for path, sent in (
            ("/api/v1/webhooks/q/w/k", body),
            ("/api/v1/flows/q/w/executions", b'{"data": {"body": %s}}' % body),
        ):
            answer = await ask("POST", path, sent, {"Content-Type": "application/json"})
            assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer.raw
        small = await ask("POST", "/api/v1/webhooks/q/w/k", b"small", {"Content-Type": "text/plain"})
        assert small.status == 202


async def test_flows_and_triggers_come_page_by_page_where_a_limit_is_given(serving: Serve) -> None:
    async with serving() as ask:
        for number in range(5):
            hooks = ", ".join(f"{{id: h{n}, type: webhook, key: k{n}}}" for n in (2, 1))
            await ask.node.catalog.put(
                f"id: f{number}\nnamespace: q.{number % 2}\ntriggers: [{hooks}]\n"
                "tasks: [{id: a, type: log, message: x}]\n"
            )
        for place, count in (("flows", 5), ("triggers", 10)):
            whole = (await ask("GET", f"/api/v1/{place}")).json
            assert (len(whole["items"]), whole["nextCursor"]) == (count, None)
            seen: list[Any] = []
            cursor = ""
            while cursor is not None:
                page = (await ask("GET", f"/api/v1/{place}?limit=2{cursor and f'&cursor={cursor}'}")).json
                assert len(page["items"]) <= 2
                seen += page["items"]
                cursor = page["nextCursor"]
            assert [(one["namespace"], one["id"]) for one in seen] == [
                (one["namespace"], one["id"]) for one in whole["items"]
            ]
        # what the cursor names may be gone by then
        found = (await ask("GET", "/api/v1/triggers?limit=1&cursor=q.0/f2/gone")).json["items"]
        assert [(one["flow"], one["id"]) for one in found] == [("f4", "h2")]
        for query in ("limit=0", "limit=x", "limit=1001", "cursor=nonsense", "cursor=a/b/c/d"):
            assert (await ask("GET", f"/api/v1/triggers?{query}")).status == 422
