"""What is asked for in a query or a start body is understood exactly, or refused by its name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Asking, Serve

_FLOW = """id: w
namespace: q
inputs: [{id: f, type: FLOAT, required: false}, {id: j, type: JSON, required: false}]
tasks:
  - {id: one, type: log, message: x}
  - {id: two, type: log, message: y}
"""
_START = "/api/v1/flows/q/w/executions"
_NINES = "9" * 4400
_LONG = "1234567890123456789012"


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.fixture(params=["memory:", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}" if request.param == "sqlite" else request.param


async def ended(ask: Asking, body: Any = None) -> str:
    """An execution that has ended."""
    id = (await ask("POST", _START, body or {})).json["id"]
    await ask("GET", f"/api/v1/executions/{id}/logs?follow=true")
    return str(id)


async def test_odd_queries_are_refused_by_name(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await ask.node.catalog.put(_FLOW)
        id = await ended(ask)
        numbers = ("²", "٣", _NINES, "-1", "+1", "1.5", "%201", "0x1", "x", "99999999999999999999")
        asked = {
            "limit": [f"/api/v1/executions?limit={one}" for one in (*numbers, "0", "1001", "5&limit=7")],
            "after": [f"/api/v1/executions/{id}/logs?after={one}" for one in numbers],
            "follow": [f"/api/v1/executions/{id}/logs?follow={one}" for one in ("1", "yes")],
            "revision": [f"/api/v1/flows/q/w?revision={one}" for one in (*numbers, "0")],
            "count": [f"/api/v1/executions?count={one}" for one in ("1", "maybe")],
            "dead": ["/api/v1/events?dead=1"],
            "cursor": [
                f"/api/v1/{place}?cursor={one}"
                for place in ("executions", "events", f"executions/{id}/taskRuns")
                for one in (
                    cursor("s99999999999999999999999"),
                    cursor(f"s{2**63}"),
                    cursor("s+1"),
                    cursor("s 1"),
                    cursor("s-1"),
                    cursor("1"),
                    cursor("s"),
                    cursor("s1") + "%3D",
                    cursor("s1") + "%0A",
                    cursor("s1") + "!",
                    "é",
                    "x" * 3000,
                )
            ],
            "unknown": ["/api/v1/executions?flwo=w", "/api/v1/flows?x=1", "/api/v1/plugins?limit=1"],
            "since": ["/api/v1/executions?since=%00", "/api/v1/executions?since=" + "9" * 5000],
        }
        for named, addresses in asked.items():
            for address in addresses:
                answer = await ask("GET", address)
                assert answer.status == 422, (address[:200], answer.raw)
                assert named in answer.json["message"]
                assert len(answer.raw) < 500
        near = await ask("GET", "/api/v1/executions?flwo=w")
        assert near.json["hint"] == 'did you mean "flow"?'


async def test_queries_in_the_usual_spellings_are_answered(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await ask.node.catalog.put(_FLOW)
        for n in range(3):
            await ended(ask, {"labels": {"k": str(n), "x": "y"}})
        base = "/api/v1/executions"
        first = (await ask("GET", f"{base}?limit=2&count=TRUE")).json
        assert (len(first["items"]), first["total"]) == (2, 3)
        rest = (await ask("GET", f"{base}?limit=2&cursor={first['nextCursor']}")).json
        assert (len(rest["items"]), rest["nextCursor"]) == (1, None)
        for query, found in (
            ("label=k=1", 1),
            ("label=k:1&label=x=y", 1),
            ("label=k=1&label=k=1", 1),
            ("label=k=1&label=k=2", 0),
            ("since=0001-01-01T00:00:00%2B14:00", 3),
            ("until=9999-12-31T23:59:59.999999-14:00", 3),
            ("limit=&state=", 3),
        ):
            answer = await ask("GET", f"{base}?count=true&{query}")
            assert (answer.status, answer.json.get("total")) == (200, found), query
        assert (await ask("GET", "/health/live?at=1")).status == 200


async def test_the_last_page_of_a_log_says_that_it_is_the_last(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await ask.node.catalog.put(_FLOW)
        log = f"/api/v1/executions/{await ended(ask)}/logs"
        assert (await ask("GET", f"{log}?limit=2")).json["nextAfter"] is None
        assert (await ask("GET", f"{log}?limit=1")).json["nextAfter"] == 1
        assert (await ask("GET", f"{log}?limit=1&after=1")).json["nextAfter"] is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"inptus": {}}', 'unknown property "inptus"'),
        ('{"inputs": {"f": 1' + "0" * 400 + "}}", "expected a number"),
        ('{"inputs": {"f": "1e400"}}', "expected a number"),
        ('{"inputs": {"j": [1e999, ' + _LONG + "]}}", "not JSON"),
        ('{"inputs": {"j": ["\\ud800", ' + _LONG + "]}}", "not JSON"),
        ('{"inputs": {"j": "' + "[" * 3000 + _LONG + "]" * 3000 + '"}}', "expected JSON"),
        ('{"data": ' + "[" * 990 + "]" * 990 + "}", "nested"),
        ('{"data": ' + "[" * 990 + _LONG + "]" * 990 + "}", "nested"),
        ('{"labels": {"a": "\\ud800"}, "trigger": "' + _LONG + '"}', "not JSON"),
        ('{"labels": {"a": {}}}', "labels.a: expected text"),
        ("[]", "the body"),
        ("null", "the body"),
        ("{", "not JSON"),
    ],
)
async def test_a_start_that_cannot_be_is_refused_in_words(serving: Serve, body: str, said: str) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        answer = await ask("POST", _START, body.encode())
        assert answer.status == 422, answer.raw
        assert said in answer.json["message"]


async def test_a_near_name_is_found_for_a_property(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW)
        answer = await ask("POST", _START, {"inptus": {}})
        assert answer.json["hint"] == 'did you mean "inputs"?'


@pytest.mark.parametrize("place", ["executions", "events", "triggers"])
async def test_a_list_finds_a_flow_by_its_name_too(serving: Serve, place: str) -> None:
    async with serving() as ask:
        for namespace in ("q", "other"):
            await ask.node.catalog.put(
                f"id: w\nnamespace: {namespace}\ntriggers: [{{id: h, type: webhook, key: k}}]\n"
                "tasks: [{id: a, type: return, value: 1}]\n"
            )
            assert (await ask("POST", f"/api/v1/webhooks/{namespace}/w/k", b"{}")).status == 202
        found = {}
        for query in ("flow=w", "flow=q/w", "flow=q/w&namespace=q", "flow=q/x"):
            answer = await ask("GET", f"/api/v1/{place}?{query}")
            assert answer.status == 200, answer.raw
            found[query] = [one["namespace"] for one in answer.json["items"]]
        assert sorted(found.pop("flow=w")) == ["other", "q"]
        assert found == {"flow=q/w": ["q"], "flow=q/w&namespace=q": ["q"], "flow=q/x": []}
        refused = await ask("GET", f"/api/v1/{place}?flow=q/w&namespace=other")
        assert refused.status == 422
        assert refused.json["message"] == 'flow names the namespace "q", namespace says "other"'
