"""``hub events tail``: one stream of every source, with what each event started or why none, over restarts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command

_RETURN = "tasks: [{id: a, type: return, value: 1}]\n"
_FLOWS = {
    "hook": 'triggers: [{id: t, type: webhook, key: k, when: "{{ trigger.body.n > 5 }}"}]\n',
    "clock": 'triggers: [{id: t, type: schedule.every, interval: PT1S, when: "{{ false }}"}]\n',
    "tick": "triggers: [{id: t, type: schedule.every, interval: PT1S}]\n",
    "drop": "triggers: [{id: t, type: file.arrival, path: inbox, settle: PT0.1S, rescan: PT1S}]\n",
    "weather": "triggers: [{id: t, type: weather.changes, file: reading.json, every: 100ms}]\n",
    "after": "triggers: [{id: t, type: flow.finished, flow: drop, namespace: all}]\n",
}


class TailProcess:
    """``hub events tail -o jsonl``; what it prints is gathered as it comes."""

    def __init__(self, hub: HubProcess, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hub", "events", "tail", "--data", str(hub.data), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._changed = Event()
        for stream, lines in ((self._process.stdout, self.lines), (self._process.stderr, self.warnings)):
            Thread(target=self._read, args=(stream, lines), daemon=True).start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            self._changed.set()
        self._changed.set()

    def until(self, is_enough: Callable[[], Any], timeout: float = 60) -> None:
        """Wait until what was printed is enough; each line is a signal."""
        while not is_enough():
            assert self._changed.wait(timeout), f"printed so far: {self.lines} {self.warnings}"
            self._changed.clear()

    def until_warned(self, times: int) -> None:
        self.until(lambda: len(self.warnings) >= times)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines)]

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(20)


@contextmanager
def tailing(hub: HubProcess, *arguments: str) -> Iterator[TailProcess]:
    tail = TailProcess(hub, *arguments)
    try:
        yield tail
    finally:
        tail.end()


@pytest.fixture
def hub(stranger: dict[str, str], tmp_path: Path) -> Iterator[HubProcess]:
    flows = tmp_path / "flows"
    flows.mkdir()
    for name, trigger in _FLOWS.items():
        (flows / f"{name}.hub.yaml").write_text(f"id: {name}\nnamespace: all\n{trigger}{_RETURN}")
    (tmp_path / "reading.json").write_text(json.dumps({"number": 1, "place": "Lyon", "celsius": 30}))
    with HubProcess(tmp_path, flows=flows, env=stranger) as running:
        yield running


def test_every_source_is_in_one_stream_with_what_it_started_or_why_nothing(
    hub: HubProcess, tmp_path: Path
) -> None:
    with tailing(hub) as tail:
        said: dict[str, str] = {}

        def sources() -> set[str]:
            for head, outcome in zip(tail.lines[::2], tail.lines[1::2], strict=False):
                said[f"{head.split()[1]} {outcome.split()[0]}"] = head + outcome
            return set(said)

        tail.until(lambda: "/all/tick/t started" in sources())
        for n in (9, 1):
            assert hub.call("POST", "/api/v1/webhooks/all/hook/k", {"n": n}).status == 202
        (tmp_path / "inbox" / "new.csv").write_text("a,b\n")
        hub_command("events", "emit", "shop.paid", "--source", "/till/3", cwd=hub.data)
        wanted = {
            "/all/hook/t started",
            "/all/hook/t refused",
            "/all/tick/t started",
            "/all/clock/t refused",
            "/all/drop/t started",
            "/all/drop started",
            "/all/weather/t started",
            "/till/3 nothing",
        }
        tail.until(lambda: wanted <= sources())
    for source in wanted:
        if source.endswith("started"):
            [execution] = re.findall(r"started all/\w+ (\S+) ", said[source])
            assert hub.ended(execution)["state"] == "SUCCESS"
    assert "when is false: {{ trigger.body.n > 5 }} with trigger.body.n = 1" in said["/all/hook/t refused"]
    assert "weather.changed" in said["/all/weather/t started"]
    assert "hub.flow.finished" in said["/all/drop started"]


def test_a_replay_is_a_new_execution_that_says_whose_it_is(hub: HubProcess) -> None:
    with tailing(hub, "--flow", "all/hook") as tail:
        answer = hub.call("POST", "/api/v1/webhooks/all/hook/k", {"n": 9}).json
        first = hub.ended(answer["executionIds"][0])
        done = hub_command("events", "replay", answer["eventId"], "-o", "json", cwd=hub.data)
        [replayed] = json.loads(done.stdout)
        [execution] = replayed["executionIds"]
        assert execution != first["id"]
        again = hub.ended(execution)
        assert (again["state"], again["outputs"]) == ("SUCCESS", first["outputs"])
        assert again["replayOf"] == answer["eventId"]
        assert again["trigger"] == first["trigger"]
        tail.until(lambda: len(tail.lines) >= 4)
    assert f"{answer['eventId']}\n" in tail.lines[0]
    assert f"{replayed['eventId']}  replay of {answer['eventId']}\n" in tail.lines[2]
    assert f"started all/hook {execution}" in tail.lines[3]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_goes_on_over_a_restart_with_nothing_skipped_and_nothing_twice(hub: HubProcess, how: str) -> None:
    sent: list[str] = []

    def send(count: int) -> None:
        for n in range(count):
            answer = hub.call("POST", "/api/v1/webhooks/all/hook/k", {"n": n})
            sent.append(answer.json["eventId"])

    with tailing(hub, "-o", "jsonl", "--flow", "all/hook") as tail:
        send(3)
        tail.until(lambda: len(tail.lines) >= 3)
        for breaks in (1, 2):
            send(120)  # not waited for: the break comes in the middle
            getattr(hub, how)()
            tail.until_warned(breaks)
            hub.start()
            send(30)
            tail.until(lambda: len(tail.lines) >= len(sent))
        stored = [one["id"] for one in hub.all_of("/api/v1/events?namespace=all&flow=hook")]
    printed = [one["id"] for one in tail.events()]
    assert printed == stored[::-1]
    assert set(sent) == set(printed)
    assert [line.endswith("waiting for it\n") for line in tail.warnings] == [True, True]


def test_the_first_connection_must_succeed(tmp_path: Path) -> None:
    done = hub_command("events", "tail", cwd=tmp_path)
    assert (done.returncode, "no hub serves" in done.stderr) == (6, True)
