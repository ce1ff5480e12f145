"""Webhooks that answer with what their flow made: at its end, early, late, never, and after a restart."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess

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


def test_hundreds_wait_without_a_thread_each(hub: HubProcess) -> None:
    gate = hub.data / "many"
    _fifo(gate)
    assert hub.process is not None
    status = Path(f"/proc/{hub.process.pid}/status")

    def threads() -> int:
        return int(status.read_text().split("Threads:")[1].split()[0])

    before = threads()
    with ThreadPoolExecutor(120) as pool:
        calls = [pool.submit(_call, hub, "slow", {"n": n}) for n in range(120)]
        waiting = threads()
        assert {call.result().status for call in calls} == {202}
    assert waiting <= before + 8


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
    import os

    os.mkfifo(path)
