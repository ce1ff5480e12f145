"""Webhooks that answer with what their flow made: at its end, early, late, never, and after a restart."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.hub_process import HubProcess

_MANY = 500
_FLOWS = """id: sum
namespace: answer
triggers:
  - {id: hook, type: webhook, key: k, wait: true, dedup: {key: "{{ trigger.headers['x-id'] ?? null }}"}}
tasks:
  - {id: fail, type: execution.fail, when: "{{ trigger.body.a < 0 }}", message: no debts}
  - {id: add, type: return, value: "{{ trigger.body.a + trigger.body.b }}"}
outputs: [{id: sum, value: "{{ outputs.add.value }}"}]
---
id: page
namespace: answer
triggers:
  - id: hook
    type: webhook
    key: k
    wait: true
    respond:
      status: 203
      headers: {Content-Type: text/html, X-State: "{{ state }}"}
      body: "<p>{{ outputs.name | upper }} from {{ trigger.parameters.town ?? 'nowhere' }}</p>"
tasks: [{id: t, type: return, value: "{{ trigger.body.name }}"}]
outputs: [{id: name, value: "{{ outputs.t.value }}"}]
---
id: early
namespace: answer
triggers: [{id: hook, type: webhook, key: k, wait: true}]
tasks:
  - {id: thanks, type: webhook.respond, status: 201, headers: {X-Kind: early}, body: {accepted: "{{ trigger.body.n }}"}}
  - {id: nap, type: flow.sleep, duration: PT1H}
---
id: slow
namespace: answer
triggers: [{id: hook, type: webhook, key: k, wait: {timeout: PT0.3S}}]
tasks: [{id: nap, type: flow.sleep, duration: PT1H}]
---
id: plain
namespace: answer
triggers: [{id: hook, type: webhook, key: k, respond: {status: 204}}]
tasks: [{id: t, type: log, message: x}]
---
id: held
namespace: answer
triggers:
  - {id: hook, type: webhook, key: k, wait: {timeout: PT2M}, dedup: {key: "{{ trigger.headers['x-id'] ?? null }}"}}
tasks: [{id: call, type: http.request, uri: "{{ trigger.body.gate }}"}]
outputs: [{id: n, value: "{{ trigger.body.n }}"}]
---
id: never
namespace: answer
triggers: [{id: hook, type: webhook, key: k, wait: true, when: "{{ trigger.body.x is defined }}"}]
tasks: [{id: t, type: log, message: x}]
---
id: gate
namespace: answer
triggers: [{id: hook, type: webhook, key: k, wait: {timeout: PT1M}, dedup: {key: "{{ trigger.headers['x-id'] }}"}}]
tasks:
  - {id: wait, type: script.shell, script: "read line < \\"$GATE\\"", env: {GATE: "{{ trigger.body.gate }}"}, retry: {interval: 10ms, maxAttempts: 9}}
  - {id: give, type: return, value: done}
outputs: [{id: word, value: "{{ outputs.give.value }}"}]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "flows").mkdir()
    for number, source in enumerate(_FLOWS.split("---\n")):
        (folder / "flows" / f"f{number}.hub.yaml").write_text(source)
    with HubProcess(folder, flows=folder / "flows") as running:
        yield running


def _call(hub: HubProcess, flow: str, body: Any, query: str = "", **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return hub.call("POST", f"/api/v1/webhooks/answer/{flow}/k{query}", body, given)


def test_the_answer_is_what_the_flow_gives(hub: HubProcess) -> None:
    answer = _call(hub, "sum", {"a": 2, "b": 3})
    assert (answer.status, answer.json) == (200, {"sum": 5})


def test_a_failed_flow_answers_with_its_error(hub: HubProcess) -> None:
    answer = _call(hub, "sum", {"a": -1, "b": 3})
    assert (answer.status, answer.json["code"]) == (500, "execution_failed")
    assert "no debts" in answer.json["message"]
    assert answer.json["details"]["state"] == "FAILED"


def test_a_repeat_gets_the_first_ones_answer_and_starts_nothing(hub: HubProcess) -> None:
    first = _call(hub, "sum", {"a": 4, "b": 4}, X_Id="same")
    again = _call(hub, "sum", {"a": 4, "b": 4}, X_Id="same")
    other = _call(hub, "sum", {"a": 5, "b": 5}, X_Id="same")
    assert (first.json, again.json, other.status) == ({"sum": 8}, {"sum": 8}, 409)


def test_a_flow_says_status_headers_and_body_itself(hub: HubProcess) -> None:
    answer = _call(hub, "page", {"name": "ada"}, "?town=London")
    assert (answer.status, answer.raw) == (203, b"<p>ADA from London</p>")
    assert (answer.headers["content-type"], answer.headers["x-state"]) == ("text/html", "SUCCESS")


def test_a_task_answers_early_and_the_flow_goes_on(hub: HubProcess) -> None:
    answer = _call(hub, "early", {"n": 7})
    assert (answer.status, answer.json, answer.headers["x-kind"]) == (201, {"accepted": 7}, "early")
    [running] = hub.call("GET", "/api/v1/executions?flow=early&state=CREATED,PAUSED,RUNNING").json["items"]
    assert hub.call("POST", f"/api/v1/executions/{running['id']}/kill").json["state"] in ("KILLED", "KILLING")


def test_who_waits_too_long_gets_the_ids(hub: HubProcess) -> None:
    answer = _call(hub, "slow", {})
    assert answer.status == 202
    assert len(answer.json["executionIds"]) == 1


def test_without_wait_the_answer_comes_at_once(hub: HubProcess) -> None:
    answer = _call(hub, "plain", {})
    assert (answer.status, answer.raw) == (204, b"")


async def test_five_hundred_wait_without_a_thread_each_and_all_get_their_answers(hub: HubProcess) -> None:
    assert hub.process is not None
    status = Path(f"/proc/{hub.process.pid}/status")

    def threads() -> int:
        return int(status.read_text().split("Threads:")[1].split()[0])

    async with _gate() as gate, _calling() as session:
        url = f"{hub.url}/api/v1/webhooks/answer/held/k"

        async def one(number: int) -> tuple[int, Any]:
            async with session.post(url, json={"gate": gate.url, "n": number}) as answer:
                return answer.status, await answer.json()

        gate.opened.set()
        await one(-1)
        gate.opened.clear()
        before = threads()
        calls = [asyncio.create_task(one(number)) for number in range(_MANY)]
        await _until(
            session, f"{hub.url}/api/v1/executions?flow=held&state=RUNNING&limit=1&count=true", _MANY
        )
        waiting = threads()
        assert not any(call.done() for call in calls)
        gate.opened.set()
        answers = await asyncio.gather(*calls)
    assert answers == [(200, {"n": number}) for number in range(_MANY)]
    # the file store and name resolution have a few of their own, however many wait
    assert waiting <= before + 8


async def test_a_caller_that_goes_leaves_the_flow_to_end_and_a_repeat_gets_its_answer(
    hub: HubProcess,
) -> None:
    async with _gate() as gate, _calling() as session:
        url = f"{hub.url}/api/v1/webhooks/answer/held/k"
        given: dict[str, Any] = {"json": {"gate": gate.url, "n": 7}, "headers": {"X-Id": "gone"}}
        caller = asyncio.create_task(session.post(url, **given))
        await gate.reached.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        again = asyncio.create_task(session.post(url, **given))
        gate.opened.set()
        answer = await again
        assert (answer.status, await answer.json()) == (200, {"n": 7})
        found = hub.call("GET", "/api/v1/executions?flow=held&limit=1").json["items"]
        assert [one["state"] for one in found] == ["SUCCESS"]


async def test_one_that_is_killed_answers_so(hub: HubProcess) -> None:
    async with _gate() as gate, _calling() as session:
        url = f"{hub.url}/api/v1/webhooks/answer/held/k"
        caller = asyncio.create_task(session.post(url, json={"gate": gate.url, "n": 8}))
        await gate.reached.wait()
        [running] = hub.call("GET", "/api/v1/executions?flow=held&limit=1").json["items"]
        await asyncio.to_thread(hub.call, "POST", f"/api/v1/executions/{running['id']}/kill")
        answer = await caller
        said = await answer.json()
    assert (answer.status, said["code"]) == (500, "execution_failed")
    assert said["details"] == {"executionId": running["id"], "state": "KILLED"}


def test_what_when_refuses_is_answered_at_once(hub: HubProcess) -> None:
    answer = _call(hub, "never", {})
    assert (answer.status, answer.json["executionIds"]) == (202, [])
    assert "when is false" in answer.json["reason"]


def test_a_hub_that_is_stopped_gives_the_ids_to_those_who_wait(tmp_path: Path) -> None:
    (tmp_path / "nap.hub.yaml").write_text(
        "id: nap\nnamespace: answer\n"
        "triggers: [{id: hook, type: webhook, key: k, wait: {timeout: PT1M}}]\n"
        "tasks: [{id: nap, type: flow.sleep, duration: PT1H}]\n"
    )
    with HubProcess(tmp_path, flows=tmp_path) as hub, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(_call, hub, "nap", {})
        while not hub.call("GET", "/api/v1/executions?state=PAUSED").json["items"]:
            time.sleep(0.02)
        began = time.monotonic()
        assert hub.stop() == 0
        assert time.monotonic() - began < 10
        answer = calling.result()
        assert (answer.status, answer.json["state"]) == (202, "PAUSED")
        hub.start()
        [id] = answer.json["executionIds"]
        assert hub.call("GET", f"/api/v1/executions/{id}").json["state"] == "PAUSED"


def test_a_repeat_after_a_restart_gets_the_answer_that_the_first_caller_never_got(hub: HubProcess) -> None:
    gate = hub.data / "gate"
    _fifo(gate)
    body = {"gate": str(gate)}
    lost: list[BaseException] = []

    def first() -> None:
        try:
            _call(hub, "gate", body, X_Id="g1")
        except OSError as error:
            lost.append(error)

    caller = threading.Thread(target=first)
    caller.start()
    while not hub.call("GET", "/api/v1/executions?flow=gate&state=RUNNING").json["items"]:
        time.sleep(0.02)
    hub.kill()
    caller.join()
    hub.start()
    opener = threading.Thread(target=lambda: gate.write_text("go\n"))
    opener.start()
    answer = _call(hub, "gate", body, X_Id="g1")
    opener.join()
    assert lost
    assert (answer.status, answer.json) == (200, {"word": "done"})


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@dataclass
class _Gate:
    """An address that answers once it is opened."""

    url: str = ""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def _gate() -> AsyncIterator[_Gate]:
    gate = _Gate()

    async def hold(request: web.Request) -> web.Response:
        gate.reached.set()
        await gate.opened.wait()
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/", hold)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield gate
    finally:
        gate.opened.set()
        await runner.cleanup()


def _calling() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    )


async def _until(session: aiohttp.ClientSession, url: str, count: int) -> None:
    """Ask until a list has so many items."""
    async with asyncio.timeout(90):
        while True:
            async with session.get(url) as answer:
                if (await answer.json())["total"] == count:
                    return
            await asyncio.sleep(0.1)
