"""``hub events``: what happened, what it started, or why nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLOWS = {
    "paid": "id: paid\nnamespace: ev\ninputs: [{id: n, type: INT}]\n"
    "triggers: [{id: t, type: event.matched, event: shop.paid, inputs: {n: '{{ trigger.n }}'}}]\n"
    "tasks: [{id: a, type: return, value: '{{ inputs.n }}'}]\n",
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


def test_an_event_is_sent_and_shown_with_everything(hub: HubProcess, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"n": 7, "deep": {"list": [1, 2]}}')
    sent = hub_command(
        "events", "emit", "shop.paid", "--data", f"@{tmp_path}/data.json", "--source", "/till/3", "--subject", "o7",
        "--id", "a1", "--time", "2026-01-31T12:00:00Z", "-o", "json", cwd=hub.data,
    )  # fmt: skip
    [receipt] = json.loads(sent.stdout)
    hub.ended(receipt["executionIds"][0])
    again = hub_command("events", "emit", "shop.paid", "--data", f"@{tmp_path}/data.json", "--source", "/till/3",
                        "--subject", "o7", "--id", "a1", cwd=hub.data)  # fmt: skip
    assert f"{receipt['eventId']}  {receipt['executionIds'][0]}  duplicate" in again.stdout
    page = hub_command("events", "show", receipt["eventId"], cwd=hub.data).stdout
    for words in (
        "source       /till/3", "type         shop.paid", "subject      o7", "time         2026-01-31T12:00:00.000Z",
        "repeats      1", f"started   ev/paid/t  {receipt['executionIds'][0]} SUCCESS", "n: 7", "- 1",
    ):  # fmt: skip
        assert words in page, words
    shown = hub_command("events", "show", receipt["eventId"], "-o", "json", cwd=hub.data).stdout
    assert json.loads(shown)["data"] == {"n": 7, "deep": {"list": [1, 2]}}


def test_an_event_with_other_data_is_a_conflict_and_a_bad_one_is_invalid(hub: HubProcess) -> None:
    arguments = ["events", "emit", "shop.paid", "--id", "b1", "--data"]
    assert hub_command(*arguments, '{"n": 1}', cwd=hub.data).returncode == 0
    assert hub_command(*arguments, '{"n": 2}', cwd=hub.data).returncode == 7
    done = hub_command("events", "emit", "hub.mine", cwd=hub.data)
    assert (done.returncode, "the hub's own" in done.stderr) == (3, True)
    assert hub_command("events", "show", "nope", cwd=hub.data).returncode == 4


def test_events_are_replayed_and_say_whose_replay_they_are(hub: HubProcess) -> None:
    ids = [hub.call("POST", "/api/v1/webhooks/ev/echo/k", {"n": n}).json["eventId"] for n in range(2)]
    done = hub_command("events", "replay", ids[0], "nope", ids[1], "-o", "json", cwd=hub.data)
    assert done.returncode == 4
    replayed = json.loads(done.stdout)
    assert [one["replayOf"] for one in replayed] == ids
    for one in replayed:
        hub.ended(one["executionIds"][0])
        assert (
            f"replay of    {one['replayOf']}"
            in hub_command("events", "show", one["eventId"], cwd=hub.data).stdout
        )


def test_dead_letters_are_listed_shown_replayed_and_dropped(hub: HubProcess) -> None:
    dead = ["events", "dead"]
    assert hub_command(*dead, "list", cwd=hub.data).stderr == "no dead letters: every event could be used\n"
    sent = hub_command("events", "emit", "shop.paid", "--data", '{"n": "many"}', "-o", "name", cwd=hub.data)
    letter = sent.stdout.strip()
    assert "expected a whole number" in hub_command(*dead, "list", cwd=hub.data).stdout
    page = hub_command(*dead, "show", letter, cwd=hub.data).stdout
    assert "dead letter" in page
    assert "invalid   ev/paid/t  " in page
    replayed = hub_command(*dead, "replay", letter, "-o", "name", cwd=hub.data).stdout.strip()
    assert hub_command(*dead, "list", "-o", "name", cwd=hub.data).stdout == f"{replayed}\n"
    dropped = hub_command(*dead, "drop", replayed, letter, cwd=hub.data)
    assert (dropped.returncode, dropped.stdout) == (4, f"dropped {replayed}\n")
    assert hub_command(*dead, "list", "-o", "name", cwd=hub.data).stdout == ""


def test_the_lines_of_the_how_to_work(hub: HubProcess) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "events.md").read_text()
    curl = re.search(r"^curl (?:.*\\\n)*.*$", page, re.M)
    emit = re.search(r"^hub (events emit .*)", page, re.M)
    assert curl
    assert emit
    command = curl[0].replace("http://127.0.0.1:8484", hub.url)
    sent = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert json.loads(sent.stdout)["items"][0]["reason"] == "no trigger wants it"
    assert hub_command(*shlex.split(emit[1]), cwd=hub.data).returncode == 0
