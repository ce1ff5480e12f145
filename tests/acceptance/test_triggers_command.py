"""``hub triggers``: how each is reached, and what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLOW = """id: {id}
namespace: tr
triggers: [{{id: hook, type: webhook, key: k, verify: {{scheme: github, secret: "{{{{ secret('{secret}') }}}}"}}}}]
tasks: [{{id: a, type: return, value: 1}}]
"""


def test_a_webhook_without_its_secret_is_said_at_the_start_and_has_no_url(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "good.hub.yaml").write_text(_FLOW.format(id="good", secret="THERE"))
    (flows / "bad.hub.yaml").write_text(_FLOW.format(id="bad", secret="LATER"))
    with HubProcess(tmp_path, flows=flows, env={"HUB_SECRET_THERE": "a secret"}) as hub:
        assert "trigger cannot be used" in hub.log.read_text()
        assert 'no secret "LATER"' in hub.log.read_text()
        listed = hub_command("triggers", "list", cwd=tmp_path).stdout
        assert 'no secret "LATER"' in listed
        assert "/tr/good/k" in listed
        assert "/tr/bad/k" not in listed
        # it comes later, and no request has to come first
        (tmp_path / "secrets.env").write_text("LATER=a secret\n")
        (tmp_path / "secrets.env").chmod(0o600)
        assert "/tr/bad/k" in hub_command("triggers", "list", cwd=tmp_path).stdout


def test_triggers_of_one_flow_are_listed_by_its_full_name(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    for id in ("one", "two"):
        (flows / f"{id}.hub.yaml").write_text(_FLOW.format(id=id, secret="THERE"))
    with HubProcess(tmp_path, flows=flows, env={"HUB_SECRET_THERE": "a secret"}):
        for name in ("tr/one", "one"):
            listed = hub_command("triggers", "list", "--flow", name, "-o", "name", cwd=tmp_path)
            assert listed.stdout == "tr/one/hook\n"


_TESTED = """id: all
namespace: tr
triggers:
  - {id: plain, type: webhook, key: plain, when: "{{ trigger.body.n ?? 1 < 5 }}"}
  - {id: get, type: webhook, key: get, methods: [GET]}
  - {id: github, type: webhook, key: github, verify: {scheme: github, secret: "{{ secret('THERE') }}"}}
  - {id: stripe, type: webhook, key: stripe, verify: {scheme: stripe, secret: "{{ secret('THERE') }}"}}
  - {id: slack, type: webhook, key: slack, verify: {scheme: slack, secret: "{{ secret('THERE') }}"}}
  - {id: standard, type: webhook, key: standard, verify: {scheme: standard-webhooks, secret: "{{ secret('THERE') }}"}}
  - {id: hmac, type: webhook, key: hmac, verify: {scheme: hmac, secret: "{{ secret('THERE') }}", encoding: base64}}
  - {id: nightly, type: schedule.cron, cron: "0 2 * * *", timezone: Europe/Paris}
  - {id: often, type: schedule.every, interval: PT1H}
  - {id: done, type: flow.finished, flow: other}
  - {id: off, type: webhook, key: off, disabled: true}
tasks: [{id: a, type: return, value: "{{ trigger }}"}]
"""
_OTHER = "id: also\nnamespace: tr\ntriggers: [{id: t, type: flow.finished, flow: other}]\ntasks: [{id: a, type: log, message: x}]\n"
_END = {
    "executionId": "e", "namespace": "tr", "flowId": "other", "flowRevision": 1, "state": "SUCCESS",
    "labels": {}, "inputs": {}, "outputs": {"n": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("hub")
    (data / "flows").mkdir()
    (data / "flows" / "all.hub.yaml").write_text(_TESTED)
    (data / "flows" / "also.hub.yaml").write_text(_OTHER)
    with HubProcess(data, flows=data / "flows", env={"HUB_SECRET_THERE": "a secret of tests"}) as running:
        yield running


def seen(hub: HubProcess, done: Any) -> Any:
    """What the flow saw of a test."""
    [event] = done["events"]
    [execution] = event["executionIds"]
    return hub.ended(execution)["taskRuns"][0]["outputs"]["value"]


@pytest.mark.parametrize("trigger", ["plain", "get", "github", "stripe", "slack", "standard", "hmac"])
def test_a_webhook_takes_the_request_that_is_signed_as_it_asks(hub: HubProcess, trigger: str) -> None:
    done = hub_command(
        "triggers", "test", f"tr/all/{trigger}", "--data", '{"n": 2}', "-o", "json", cwd=hub.data
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["answer"]["eventId"]) == (202, told["events"][0]["eventId"])
    shown = seen(hub, told)
    assert (shown["body"], shown["method"]) == ({"n": 2}, "GET" if trigger == "get" else "POST")
    assert "a secret of tests" not in done.stdout


def test_a_test_says_what_was_started_or_why_not(hub: HubProcess) -> None:
    done = hub_command("triggers", "test", "tr/all/plain", cwd=hub.data)
    assert done.stdout.startswith("POST answered 202 {")
    assert "started 0" in done.stdout
    refused = hub_command("triggers", "test", "tr/all/plain", "--data", '{"n": 7}', cwd=hub.data)
    assert refused.returncode == 0
    assert "started nothing: when is false" in refused.stdout


def test_other_triggers_bring_a_sample_or_the_given_data(hub: HubProcess) -> None:
    for trigger, zone in (("nightly", "Europe/Paris"), ("often", "UTC")):
        done = hub_command("triggers", "test", f"tr/all/{trigger}", "-o", "json", cwd=hub.data)
        assert seen(hub, json.loads(done.stdout))["timezone"] == zone
    end = json.dumps(_END)
    done = hub_command("triggers", "test", "tr/all/done", "--data", end, "-o", "json", cwd=hub.data)
    assert seen(hub, json.loads(done.stdout))["outputs"] == {"n": 1}
    # a test is for one flow: the others that wait for such an end are not started
    assert hub_command("executions", "list", "--flow", "tr/also", "-o", "name", cwd=hub.data).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["tr/all/nope"], 4, "no trigger tr/all/nope in use"),
        (["tr/nope/plain"], 4, "no trigger tr/nope/plain in use"),
        (["tr/all/off"], 7, "is disabled"),
        (["tr/all"], 2, "expected NAMESPACE/FLOW/TRIGGER"),
        (["tr/all/done"], 3, "executionId"),
        (["tr/all/done", "--data", "5"], 3, "data is an object"),
        (["tr/all/done", "--data", '{"state": "SUCCESS"}'], 3, "data.executionId"),
        (["tr/all/nightly", "--data", '{"date": 5}'], 3, "data.date"),
    ],
)
def test_what_cannot_be_tested_is_said(hub: HubProcess, arguments: list[str], code: int, words: str) -> None:
    done = hub_command("triggers", "test", *arguments, cwd=hub.data)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
