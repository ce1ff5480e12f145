"""``hub events``: what happened, what it started, or why nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLOWS = {
    "echo": "id: echo\nnamespace: ev\ntriggers: [{id: hook, type: webhook, key: k}]\n"
    "tasks: [{id: a, type: return, value: 1}]\n",
    "picky": "id: picky\nnamespace: ev\ntriggers: [{id: hook, type: webhook, key: k,"
    ' when: "{{ trigger.body.n > 5 }}"}]\ntasks: [{id: a, type: return, value: 1}]\n',
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("hub")
    (data / "flows").mkdir()
    for name, source in _FLOWS.items():
        (data / "flows" / f"{name}.hub.yaml").write_text(source)
    with HubProcess(data, flows=data / "flows") as running:
        yield running


@contextmanager
def tailing(hub: HubProcess, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``hub events tail``, ended by its own pid."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "events", "tail", "--data", str(hub.data), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the tail has ended"
    return line


def test_tail_prints_every_event_of_a_burst_once_and_in_order(hub: HubProcess) -> None:
    first = hub.call("POST", "/api/v1/webhooks/ev/echo/k", {}).json["eventId"]
    with tailing(hub, "-o", "jsonl", "--flow", "ev/echo") as tail:
        assert json.loads(line_of(tail))["id"] == first
        with ThreadPoolExecutor(8) as senders:
            answers = senders.map(
                lambda n: hub.call("POST", "/api/v1/webhooks/ev/echo/k", {"n": n}), range(1500)
            )
            sent = {answer.json["eventId"] for answer in answers}
        printed = [json.loads(line_of(tail)) for _ in sent]
        assert len(sent) == 1500
        assert {one["id"] for one in printed} == sent
        moments = [one["receivedAt"] for one in printed]
        assert moments == sorted(moments)


def test_tail_says_what_was_started_and_why_something_was_not(hub: HubProcess) -> None:
    with tailing(hub, "--flow", "ev/picky") as tail:
        for n in (9, 1):
            answer = hub.call("POST", "/api/v1/webhooks/ev/picky/k", {"n": n}).json
            head, outcome = line_of(tail), line_of(tail)
            assert f"/ev/picky/hook  hub.webhook.received  {answer['eventId']}" in head
            if n == 9:
                assert f"started ev/picky {answer['executionIds'][0]} " in outcome
            else:
                assert "refused by ev/picky/hook: when is false" in outcome
                assert "trigger.body.n = 1" in outcome


def test_list_says_the_execution_that_an_event_started(hub: HubProcess) -> None:
    execution = hub.call("POST", "/api/v1/webhooks/ev/echo/k", {}).json["executionIds"][0]
    hub.ended(execution)
    listed = hub_command("events", "list", "--limit", "1", cwd=hub.data).stdout
    assert f"started ev/echo {execution} SUCCESS" in listed
