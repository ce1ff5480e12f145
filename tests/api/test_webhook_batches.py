"""Requests that start a flow together: each durable before it is acknowledged, each in exactly one batch."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from hub.errors import InvalidFlow, StorageUnavailable
from hub.model import jsontext
from hub.model.execution import Execution
from hub.model.ids import TriggerKey
from hub.plugin.storage import ExecutionFilter, Page
from tests.api.conftest import Asking, Said, Serve

HOOK = "/api/v1/webhooks/q/w/k"
_LONG = "maxWait: PT1H"


def flow(batch: str, *, hook: str = "", value: str = "{{ trigger.events }}") -> str:
    return (
        f"id: w\nnamespace: q\ntriggers:\n  - {{id: hook, type: webhook, key: k, batch: {{{batch}}}{hook}}}\n"
        f'tasks: [{{id: t, type: return, value: "{value}"}}]\n'
    )


async def put(ask: Asking, source: str) -> None:
    await ask.node.catalog.put(source)
    await ask.node.triggers.settle()


async def post(ask: Asking, number: int, **headers: str) -> Said:
    answer = await ask(
        "POST", HOOK, {"n": number}, {name.replace("_", "-"): v for name, v in headers.items()}
    )
    assert answer.status == 202, answer.raw
    return answer


async def ended(ask: Asking, count: int) -> list[Execution]:
    """Wait until so many executions have ended; oldest first."""
    storage = ask.node.services.storage
    with ask.node.services.bus.subscribe("execution", size=100_000) as news:
        while True:
            found = (await storage.executions(ExecutionFilter(), Page(1000))).items
            if len(found) >= count and all(one.state.is_terminal for one in found):
                return list(reversed(found))
            await news.next()


async def numbers(ask: Asking, execution: Execution) -> list[int]:
    """What the requests of a batch said."""
    whole = await ask.node.services.storage.execution(execution.id)
    data = await ask.node.services.payloads.unpack(whole.trigger_data or {})
    assert data["count"] == len(data["events"])
    return [event["body"]["n"] for event in data["events"]]


async def waiting(ask: Asking) -> int:
    return len(
        (await ask.node.services.storage.waiting_events(TriggerKey("q", "w", "hook"), Page(1000))).items
    )


async def test_so_many_requests_start_the_flow_once_in_their_order(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 3, {_LONG}"))
        answers = [await post(ask, number) for number in range(7)]
        for answer in answers:
            assert answer.json == {"eventId": answer.json["eventId"], "executionIds": [], "batched": True}
        found = [await numbers(ask, one) for one in await ended(ask, 2)]
        assert found == [[0, 1, 2], [3, 4, 5]]
        assert await waiting(ask) == 1


async def test_what_waits_for_too_few_starts_the_flow_after_a_while(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow("maxEvents: 100, maxWait: PT0.2S"))
        for number in range(3):
            await post(ask, number)
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1, 2]


async def test_an_event_of_a_batch_says_what_it_was_and_where_it_went(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 2, {_LONG}"))
        first = await ask("PUT", HOOK + "?a=1", {"n": 0}, {"X-Mine": "yes"})
        path = f"/api/v1/events/{first.json['eventId']}"
        before = (await ask("GET", path)).json
        assert (before["batch"], [one["outcome"] for one in before["verdicts"]]) == ("", ["batched"])
        await post(ask, 1)
        [execution] = await ended(ask, 1)
        after = (await ask("GET", path)).json
        assert after["batch"] == execution.event_id
        started = [(one["outcome"], one["executionId"]) for one in after["verdicts"]]
        assert started[0] == ("started", execution.id)
        batch = (await ask("GET", f"/api/v1/events/{execution.event_id}")).json
        assert (batch["type"], batch["data"]["count"]) == ("hub.webhook.batched", 2)
        shown = batch["data"]["events"][0]
        assert (shown["id"], shown["receivedAt"]) == (first.json["eventId"], before["receivedAt"])
        assert (shown["method"], shown["parameters"], shown["headers"]["x-mine"]) == (
            "PUT",
            {"a": "1"},
            "yes",
        )


async def test_a_repeat_is_known_and_counts_once(serving: Serve) -> None:
    dedup = ", dedup: {key: \"{{ trigger.headers['x-id'] }}\"}"
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 2, {_LONG}", hook=dedup))
        first = await post(ask, 0, X_Id="a")
        again = await post(ask, 0, X_Id="a")
        assert again.json == {**first.json, "duplicate": True}
        assert (await ask("POST", HOOK, {"n": 1}, {"X-Id": "a"})).status == 409
        assert await waiting(ask) == 1
        await post(ask, 1, X_Id="b")
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1]
        late = await post(ask, 0, X_Id="a")
        assert late.json == {**again.json, "executionIds": [execution.id]}


@pytest.mark.parametrize("wait", ["wait: true", "wait: {timeout: PT1S}"])
async def test_wait_and_batch_together_are_refused_when_saved(serving: Serve, wait: str) -> None:
    async with serving() as ask:
        with pytest.raises(InvalidFlow, match="either wait or batch"):
            await ask.node.catalog.put(flow("maxEvents: 2", hook=f", {wait}"))


@pytest.mark.parametrize("batch", ["maxEvents: 0", "maxEvents: 1001", "maxWait: PT0S", "maxWait: P2D"])
async def test_a_batch_without_bounds_is_refused(serving: Serve, batch: str) -> None:
    async with serving() as ask:
        with pytest.raises(InvalidFlow, match=r"maxEvents|maxWait"):
            await ask.node.catalog.put(flow(batch))


async def test_a_batch_goes_on_after_a_restart(serving: Serve) -> None:
    source = flow(f"maxEvents: 3, {_LONG}")
    async with serving(storage="sqlite:///hub.db") as ask:
        await put(ask, source)
        for number in range(2):
            await post(ask, number)
    async with serving(storage="sqlite:///hub.db") as ask:
        assert await waiting(ask) == 2
        await post(ask, 2)
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1, 2]


async def test_what_has_waited_long_enough_while_the_hub_was_down_starts_at_once(serving: Serve) -> None:
    async with serving(storage="sqlite:///hub.db") as ask:
        await put(ask, flow("maxEvents: 100, maxWait: PT5S"))
        for number in range(2):
            await post(ask, number)
        await put(ask, flow("maxEvents: 100, maxWait: PT5S").replace("key: k", "key: k, disabled: true"))
        assert await waiting(ask) == 2
    async with serving(storage="sqlite:///hub.db") as ask:
        await put(ask, flow("maxEvents: 100, maxWait: PT0.01S"))
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1]


async def test_when_sees_the_batch(serving: Serve) -> None:
    when = ", when: '{{ trigger.events[0].body.n > 0 }}'"
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 2, {_LONG}", hook=when))
        for number in (0, 0, 1, 1):
            await post(ask, number)
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [1, 1]
        assert await waiting(ask) == 0


async def test_a_replayed_request_joins_the_next_batch_and_a_replayed_batch_starts(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 2, {_LONG}"))
        one = await post(ask, 0)
        await post(ask, 1)
        [first] = await ended(ask, 1)
        single = await ask("POST", f"/api/v1/events/{one.json['eventId']}/replay")
        assert single.json["executionIds"] == []
        await post(ask, 2)
        _, second = await ended(ask, 2)
        assert await numbers(ask, second) == [0, 2]
        whole = await ask("POST", f"/api/v1/events/{first.event_id}/replay")
        assert len(whole.json["executionIds"]) == 1
        *_, third = await ended(ask, 3)
        assert await numbers(ask, third) == [0, 1]
        await ask("POST", f"/api/v1/executions/{first.id}/replay", {})
        *_, fourth = await ended(ask, 4)
        assert await numbers(ask, fourth) == [0, 1]


async def test_a_tested_request_waits_for_its_batch_and_says_so(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 2, {_LONG}"))
        tested = await ask("POST", "/api/v1/triggers/q/w/hook/test", {"data": {"n": 0}})
        assert (tested.json["status"], tested.json["answer"]["batched"]) == (202, True)
        [event] = tested.json["events"]
        assert "together with others" in event["reason"]
        await post(ask, 1)
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1]


async def test_files_of_a_batch_are_there_for_its_execution(serving: Serve) -> None:
    async with serving() as ask:
        source = flow(f"maxEvents: 2, {_LONG}").partition("tasks:")[0] + (
            "tasks:\n  - id: each\n    type: flow.loop\n    values: '{{ trigger.events }}'\n"
            "    tasks: [{id: r, type: file.read, path: '{{ item.value.body.f.uri }}'}]\n"
        )
        await put(ask, source)
        for text in (b"one", b"two"):
            form = aiohttp.FormData()
            form.add_field("f", text, filename="a.txt", content_type="text/plain")
            async with ask.session.post(ask.url + HOOK, data=form) as answer:
                assert (await answer.json())["batched"] is True
        [execution] = await ended(ask, 1)
        runs = (await ask.node.services.storage.task_runs(execution.id, Page(10))).items
        read = {run.path: (run.outputs or {})["content"] for run in runs if run.task == "r"}
        assert read == {"each[0]/r": "one", "each[1]/r": "two"}


async def test_a_batch_holds_no_more_than_fits(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 1000, {_LONG}", value="{{ trigger.count }}"))
        text = "x" * 1_000_000
        for number in range(10):
            assert (await ask("POST", HOOK, {"n": number, "text": text})).status == 202
        await put(ask, flow("maxEvents: 1000, maxWait: PT0.001S", value="{{ trigger.count }}"))
        found = [await numbers(ask, one) for one in await ended(ask, 2)]
        assert found == [list(range(8)), [8, 9]]


async def test_a_batch_goes_on_when_the_storage_is_back(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as ask:
        storage = ask.node.services.storage
        read = storage.waiting_events
        asked: list[int] = []

        async def away(*given: Any) -> Any:
            asked.append(1)
            if len(asked) <= 2:
                raise StorageUnavailable("the disk is away")
            return await read(*given)

        monkeypatch.setattr(storage, "waiting_events", away)
        await put(ask, flow(f"maxEvents: 2, {_LONG}"))
        for number in range(2):
            await post(ask, number)
        [execution] = await ended(ask, 1)
        assert await numbers(ask, execution) == [0, 1]
        [shown] = (await ask("GET", "/api/v1/triggers")).json["items"]
        assert shown["state"] == "running"


@pytest.mark.parametrize("storage", ["memory:", "sqlite:///hub.db"])
async def test_hundreds_at_once_are_each_in_one_batch(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        await put(ask, flow("maxEvents: 40, maxWait: PT0.3S", value="{{ trigger.count }}"))
        limit = asyncio.Semaphore(50)

        async def one(number: int) -> None:
            async with limit:
                await post(ask, number)

        await asyncio.gather(*(one(number) for number in range(500)))
        found: list[list[int]] = []
        while sum(map(len, found)) < 500:
            found = [await numbers(ask, one) for one in await ended(ask, max(13, len(found) + 1))]
        assert sorted(number for batch in found for number in batch) == list(range(500))
        assert max(map(len, found)) <= 40


async def test_a_batch_that_is_taken_out_leaves_requests_to_start_alone(serving: Serve) -> None:
    async with serving() as ask:
        await put(ask, flow(f"maxEvents: 3, {_LONG}"))
        one = await post(ask, 0)
        await put(
            ask, flow("maxEvents: 3", value="{{ trigger.body.n }}").replace(", batch: {maxEvents: 3}", "")
        )
        assert len((await post(ask, 1)).json["executionIds"]) == 1
        again = await ask("POST", f"/api/v1/events/{one.json['eventId']}/replay")
        assert len(jsontext.loads(again.raw)["executionIds"]) == 1
