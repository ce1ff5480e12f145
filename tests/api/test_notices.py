"""Notices over the API: where each stands, retried and dropped by hand; who is told, and how that goes."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import Asking, Serve
from tests.support.receiver import receiver

_FLOW = (
    "id: f\nnamespace: t\ntasks:\n"
    "  - {id: a, type: notify, to: [oncall, nobody], subject: hi, message: the text, attachments: ['hub:///a/b/c.csv']}\n"
)


def configure(folder: Path, url: str) -> None:
    (folder / "hub.yaml").write_text(f"notifiers: {{oncall: {{type: webhook, url: '{url}/hook'}}}}\n")


async def run(ask: Asking) -> str:
    answer = await ask("POST", "/api/v1/flows/t/f/executions", {})
    assert answer.status in (200, 201, 202), answer.raw
    execution: str = answer.json["id"]
    await ask("GET", f"/api/v1/executions/{execution}/logs?follow=true")
    await ask.node.notifications.settled()
    return execution


async def test_a_list_says_where_each_notice_stands(serving: Serve, tmp_path: Path) -> None:
    async with receiver() as found:
        configure(tmp_path, found.url)
        async with serving() as ask:
            await ask.node.catalog.put(_FLOW)
            execution = await run(ask)
            answer = await ask("GET", "/api/v1/notices")
            by_name = {item["notifier"]: item for item in answer.json["items"]}
            assert {name: item["state"] for name, item in by_name.items()} == {
                "oncall": "delivered",
                "nobody": "dead",
            }
            assert 'no notifier is called "nobody"' in by_name["nobody"]["error"]
            assert all(item["executionId"] == execution for item in by_name.values())
            assert "message" not in by_name["oncall"]
            for query, count in (
                ("state=dead", 1),
                ("state=DEAD,delivered", 2),
                ("notifier=oncall", 1),
                (f"execution={execution}", 2),
                ("execution=other", 0),
                ("namespace=t&flow=f", 2),
                ("flow=g", 0),
            ):
                assert len((await ask("GET", f"/api/v1/notices?{query}")).json["items"]) == count, query
            page = (await ask("GET", "/api/v1/notices?limit=1")).json
            rest = (await ask("GET", f"/api/v1/notices?limit=1&cursor={page['nextCursor']}")).json
            assert rest["nextCursor"] is None
            assert {page["items"][0]["id"], rest["items"][0]["id"]} == {
                item["id"] for item in by_name.values()
            }
            assert (await ask("GET", "/api/v1/notices?state=lost")).status == 422


async def test_one_notice_is_shown_whole(serving: Serve, tmp_path: Path) -> None:
    async with receiver() as found:
        configure(tmp_path, found.url)
        async with serving() as ask:
            await ask.node.catalog.put(_FLOW)
            await run(ask)
            [item] = (await ask("GET", "/api/v1/notices?notifier=oncall")).json["items"]
            one = (await ask("GET", f"/api/v1/notices/{item['id']}")).json
            assert (one["subject"], one["message"], one["deliveryId"]) == ("hi", "the text", item["id"])
            assert one["attachments"] == [{"name": "c.csv", "uri": "hub:///a/b/c.csv"}]
            assert (await ask("GET", "/api/v1/notices/none")).status == 404


async def test_a_dead_notice_is_retried_or_dropped_by_hand(serving: Serve, tmp_path: Path) -> None:
    async with receiver() as found:
        configure(tmp_path, found.url)
        found.answers = [(410, {}, "gone")]
        async with serving() as ask:
            await ask.node.catalog.put(_FLOW)
            await run(ask)
            [state] = (await ask("GET", "/api/v1/notifiers")).json["items"]
            assert (state["name"], state["type"], state["dead"]) == ("oncall", "webhook", 1)
            assert "410" in state["disabled"]
            text = (await ask("GET", "/metrics")).raw.decode()
            assert 'hub_notices{state="dead"} 2.0' in text
            assert 'hub_notifier_disabled{notifier="oncall"} 1.0' in text
            [gone] = (await ask("GET", "/api/v1/notices?notifier=oncall")).json["items"]
            [lost] = (await ask("GET", "/api/v1/notices?notifier=nobody")).json["items"]
            answer = await ask("POST", f"/api/v1/notices/{gone['id']}/retry")
            assert (answer.status, answer.json["state"]) == (202, "owed")
            assert (await ask("DELETE", f"/api/v1/notices/{lost['id']}")).status == 204
            await ask.node.notifications.settled()
            states = {
                item["notifier"]: item["state"]
                for item in (await ask("GET", "/api/v1/notices")).json["items"]
            }
            assert states == {"oncall": "delivered", "nobody": "dropped"}
            assert (await ask("DELETE", f"/api/v1/notices/{gone['id']}")).status == 409
            assert (await ask("POST", f"/api/v1/notices/{gone['id']}/retry")).status == 409
            assert (await ask("POST", "/api/v1/notices/none/retry")).status == 404
            text = (await ask("GET", "/metrics")).raw.decode()
            assert 'hub_notices_delivered_total{notifier="oncall"} 1.0' in text
            assert 'hub_notices{state="dead"} 0.0' in text
