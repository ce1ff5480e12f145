"""SIGTERM, kill -9 and kills against a real hub: it never freezes, ends in order and burns no attempt."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess

LIVE = "CREATED,QUEUED,RUNNING,PAUSED,RETRYING,KILLING"


def hub_with(folder: Path, settings: str = "", **sources: str) -> HubProcess:
    flows = folder / "flows"
    flows.mkdir(exist_ok=True)
    for name, body in sources.items():
        (flows / f"{name}.hub.yaml").write_text(f"id: {name}\nnamespace: t\n{body}")
    if settings:
        (folder / "hub.yaml").write_text(settings)
    return HubProcess(folder, flows=flows)


def start(hub: HubProcess, flow: str, inputs: Any = None) -> str:
    answer = hub.call("POST", f"/api/v1/flows/t/{flow}/executions", {"inputs": inputs or {}})
    id: str = answer.json["id"]
    return id


def script(body: str) -> str:
    return f"tasks: [{{id: a, type: script.shell, script: {json.dumps(body)}}}]\n"


def rows(hub: HubProcess, sql: str) -> list[Any]:
    connection = sqlite3.connect(hub.data / "hub.db", timeout=20)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def lines_of(path: Path, count: int, timeout: float = 20) -> list[str]:
    """Wait until scripts have written so many lines."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        lines = path.read_text().split() if path.exists() else []
        if len(lines) >= count:
            return lines
        time.sleep(0.02)
    raise AssertionError(f"only {len(lines)} lines in {path}")


def test_a_running_script_goes_on_at_once_after_kill_9(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    hub = hub_with(tmp_path, slow=script(f"echo x >> {ledger}; sleep 100"))
    with hub:
        start(hub, "slow")
        lines_of(ledger, 1)
        time.sleep(0.3)
        hub.kill()
        hub.start()
        ready = time.monotonic()
        lines_of(ledger, 2)
        assert time.monotonic() - ready < 2
        hub.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        time.sleep(0.1)
        assert hub.stop(timeout=20) == 0


def test_a_stop_with_a_backlog_a_kill_and_new_work_in_it_ends_in_order(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    hub = hub_with(
        tmp_path,
        "limits: {maxConcurrentExecutions: 3}\n",
        slow=script(f"echo x >> {ledger}; sleep 3"),
        hello="tasks: [{id: a, type: return, value: 1}]\n",
    )
    with hub:
        ids = [start(hub, "slow") for _ in range(8)]
        lines_of(ledger, 3)
        assert hub.process is not None
        began = time.monotonic()
        hub.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert hub.call("POST", f"/api/v1/executions/{ids[0]}/kill").status == 200
        late = start(hub, "hello")
        assert hub.process.wait(20) == 0
        assert time.monotonic() - began < 10
        states = dict(rows(hub, "SELECT id, state FROM executions"))
        assert states[ids[0]] == "KILLED"
        assert sorted(states.values()) == ["CREATED"] * 6 + ["KILLED"] + ["SUCCESS"] * 2
        assert rows(hub, "SELECT count(*) FROM executions WHERE claimed = 1") == [(0,)]
        hub.start()
        for id in (*ids[1:], late):
            assert hub.ended(id)["state"] == "SUCCESS"


@pytest.mark.timeout(180)
def test_suspects_as_many_as_there_are_places_do_not_freeze_the_start(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    hub = hub_with(
        tmp_path, "limits: {maxConcurrentExecutions: 4}\n", slow=script(f"echo x >> {ledger}; sleep 2")
    )
    with hub:
        ids = [start(hub, "slow") for _ in range(7)]
        lines_of(ledger, 4)
        hub.kill()
        hub.start(timeout=20)
        for id in ids:
            assert hub.ended(id)["state"] == "SUCCESS"


@pytest.mark.timeout(180)
def test_a_script_that_takes_the_hub_down_is_tried_three_times_as_a_suspect(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    hub = hub_with(
        tmp_path,
        killer=script(f"echo x >> {ledger}; kill -9 $PPID; sleep 20"),
        beside=f"""tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {{id: k, type: script.shell, script: "echo x >> {ledger}2; sleep 0.5; kill -9 $PPID; sleep 20"}}
      - id: L
        type: flow.loop
        values: [1, 2, 3, 4]
        concurrencyLimit: 1
        tasks: [{{id: s, type: script.shell, script: "sleep 0.2"}}]
""",
    )
    for flow, file in (("killer", ledger), ("beside", Path(f"{ledger}2"))):
        hub.start()
        try:
            id = start(hub, flow)
        except OSError:
            id = ""  # it was quicker than the answer
        crashes = 0
        assert hub.process is not None
        while crashes < 12:
            try:
                hub.process.wait(4)
            except subprocess.TimeoutExpired:
                break
            crashes += 1
            hub.start()
        [(found, state, error)] = rows(hub, f"SELECT id, state, error FROM executions WHERE flow = '{flow}'")
        assert id in ("", found)
        assert hub.ended(found)["state"] == "FAILED", state
        error = hub.ended(found)["error"]
        # the first start may not have been stored yet when it took the hub down
        assert re.search(r"the hub went down [3-9] times while it ran", error)
        assert crashes == len(file.read_text().split())
        # some more where the loop beside it got on for a while
        assert 4 <= crashes <= (5 if flow == "killer" else 9)
        task = rows(
            hub,
            f"SELECT state FROM task_runs WHERE execution_id = '{found}' AND type = 'script.shell'"
            " AND error IS NOT NULL",
        )
        assert task == [("FAILED",)]
        hub.stop()


@pytest.mark.timeout(180)
def test_two_sigterms_in_the_middle_of_loops_run_nothing_again(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    hub = hub_with(
        tmp_path,
        many=f"""inputs: [{{id: v, type: JSON}}]
tasks:
  - id: l
    type: flow.loop
    values: "{{{{ inputs.v }}}}"
    tasks: [{{id: a, type: script.shell, script: "echo $HUB_TASK_RUN_ID >> {ledger}"}}]
""",
        fast="""inputs: [{id: v, type: JSON}]
tasks:
  - id: l
    type: flow.loop
    values: "{{ inputs.v }}"
    tasks: [{id: a, type: return, value: "{{ now() }}"}]
""",
    )
    with hub:
        many = start(hub, "many", {"v": list(range(400))})
        fast = start(hub, "fast", {"v": list(range(8000))})
        ended: dict[str, Any] = {}
        for _ in range(4):
            lines_of(ledger, 1)
            time.sleep(0.7)
            assert hub.process is not None
            hub.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            if hub.process.poll() is None:
                hub.process.send_signal(signal.SIGTERM)
            assert hub.process.wait(20) == 0
            found = dict(
                rows(
                    hub,
                    "SELECT execution_id || scope || name, state || ended_at || coalesce(outputs, '')"
                    " FROM task_runs WHERE ended_at IS NOT NULL",
                )
            )
            assert {key: found.get(key) for key in ended} == ended
            ended = found
            hub.start()
        assert hub.ended(many)["state"] == "SUCCESS"
        assert hub.ended(fast)["state"] == "SUCCESS"
        calls = ledger.read_text().split()
        # a script that was under way when the hub stopped may run again, one that had ended may not
        assert len(set(calls)) == 400
        assert len(calls) - len(set(calls)) <= 4 * 10
        assert rows(hub, "SELECT count(*) FROM task_runs WHERE attempts > 1") == [(0,)]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes")
def test_a_kill_is_answered_when_parallel_scripts_are_gone(tmp_path: Path) -> None:
    body = "trap '' TERM; echo x >> LEDGER; sleep 60; sleep 60; sleep 60"
    ledger = tmp_path / "ledger"
    hub = hub_with(
        tmp_path,
        gk=f"""tasks:
  - id: p
    type: flow.parallel
    timeout: PT1S
    tasks:
      - {{id: x, type: script.shell, script: {json.dumps(body.replace("LEDGER", str(ledger)))}}}
      - {{id: y, type: script.shell, script: {json.dumps(body.replace("LEDGER", str(ledger)))}}}
""",
    )
    with hub:
        id = start(hub, "gk")
        lines_of(ledger, 2)
        token = rows(hub, "SELECT execution_id FROM task_runs LIMIT 1")
        assert token
        time.sleep(1.3)
        hub.call("POST", f"/api/v1/executions/{id}/kill")
        ended = hub.ended(id)
        left = subprocess.run(
            ["pgrep", "-f", str(ledger)], capture_output=True, text=True, check=False
        ).stdout.split()
        assert ended["state"] == "KILLED"
        assert left == []
        assert rows(hub, "SELECT count(*) FROM task_runs WHERE ended_at IS NULL") == [(0,)]
