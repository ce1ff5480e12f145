"""Run again what has ended, and remove it: by the API and by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLAKY = """id: flaky
namespace: ag
inputs: [{id: n, type: INT, defaults: 1}]
tasks:
  - {id: first, type: return, value: "{{ inputs.n }}"}
  - {id: second, type: script.shell, script: "test -e good"}
"""
_BIG = f"""id: big
namespace: ag
tasks: [{{id: big, type: return, value: {"x" * 70_000}}}]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("hub")
    (data / "flows").mkdir()
    source = _FLAKY.replace("test -e good", f"test -e {data}/good")
    (data / "flows" / "flaky.hub.yaml").write_text(source)
    (data / "flows" / "big.hub.yaml").write_text(_BIG)
    with HubProcess(data, flows=data / "flows") as running:
        yield running


def run(hub: HubProcess, flow: str = "flaky", **inputs: Any) -> dict[str, Any]:
    started = hub.call("POST", f"/api/v1/flows/ag/{flow}/executions", {"inputs": inputs})
    return hub.ended(started.json["id"])


@pytest.fixture
def failed(hub: HubProcess) -> dict[str, Any]:
    (hub.data / "good").unlink(missing_ok=True)
    return run(hub, n=7)


def test_a_restart_goes_on_where_it_failed(hub: HubProcess, failed: dict[str, Any]) -> None:
    assert failed["state"] == "FAILED"
    (hub.data / "good").write_text("")
    answer = hub.call("POST", f"/api/v1/executions/{failed['id']}/restart")
    assert (answer.status, answer.json["restarts"]) == (200, 1)
    ended = hub.ended(failed["id"])
    assert ended["state"] == "SUCCESS"
    assert [run["attempts"] for run in ended["taskRuns"]] == [1, 2]
    again = hub.call("POST", f"/api/v1/executions/{failed['id']}/restart")
    assert (again.status, again.json["code"]) == (409, "conflict")
    assert hub.call("POST", "/api/v1/executions/nope/restart").status == 404


def test_a_replay_is_a_new_execution_with_other_inputs(hub: HubProcess, failed: dict[str, Any]) -> None:
    (hub.data / "good").write_text("")
    path = f"/api/v1/executions/{failed['id']}/replay"
    answer = hub.call("POST", path, {"inputs": {"n": 8}, "labels": {"why": "test"}})
    assert (answer.status, answer.json["replayOf"], answer.json["gone"]) == (201, failed["id"], [])
    ended = hub.ended(answer.json["id"])
    assert (ended["state"], ended["inputs"], ended["labels"]) == ("SUCCESS", {"n": 8}, {"why": "test"})
    from_second = hub.call("POST", path, {"fromTask": "second"})
    assert from_second.status == 201
    ended = hub.ended(from_second.json["id"])
    assert ended["taskRuns"][0]["outputs"] == {"value": 7}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b"{", 422),
        (b'{"input": {}}', 422),
        (b'{"revision": 0}', 422),
        (b'{"revision": 99}', 404),
        (b'{"revision": 1e30}', 422),
        (b'{"fromTask": "nope"}', 404),
        (b'{"inputs": {"n": "many"}}', 422),
        (b'{"inputs": {"n": 1}, "fromTask": "second"}', 422),
    ],
)
def test_a_bad_replay_is_refused_in_plain_words(
    hub: HubProcess, failed: dict[str, Any], body: bytes, status: int
) -> None:
    answer = hub.call(
        "POST",
        f"/api/v1/executions/{failed['id']}/replay",
        body,
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status, bool(answer.json["message"])) == (status, True)


def test_a_purge_removes_what_is_old_enough_with_its_files(hub: HubProcess) -> None:
    big = run(hub, "big")
    owned = hub.data / "files" / big["id"]
    kept = [path for path in hub.data.rglob("*") if big["id"] in str(path)]
    assert kept, owned
    for body, count in (
        ({"olderThan": "1h"}, 0),
        ({"olderThan": "0s", "flow": "big", "states": ["failed"]}, 0),
    ):
        assert hub.call("POST", "/api/v1/executions/purge", body).json["executions"] == count
    wanted = {"olderThan": "0s", "flow": "big", "states": ["success"]}
    dry = hub.call("POST", "/api/v1/executions/purge", {**wanted, "dryRun": True})
    assert dry.json == {"executions": 1, "more": False, "dryRun": True}
    assert hub.call("GET", f"/api/v1/executions/{big['id']}").status == 200
    done = hub.call("POST", "/api/v1/executions/purge", wanted)
    assert done.json == {"executions": 1, "more": False, "dryRun": False}
    assert hub.call("GET", f"/api/v1/executions/{big['id']}").status == 404
    assert [path for path in kept if path.exists()] == []


def test_a_purge_stops_at_its_limit_and_says_that_there_is_more(hub: HubProcess) -> None:
    for _ in range(3):
        run(hub, "big")
    wanted = {"olderThan": "0s", "flow": "big", "limit": 2}
    found = [
        hub.call("POST", "/api/v1/executions/purge", {**wanted, "dryRun": dry}).json
        for dry in (True, False, False)
    ]
    assert [(one["executions"], one["more"]) for one in found] == [(2, True), (2, True), (1, False)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"olderThan": "1h", "before": "2026-01-01"},
        {"olderThan": "soon"},
        {"olderThan": "9999999d"},
        {"olderThan": "1000000000000000000000d"},
        {"before": "x"},
        {"before": "2026-01-01", "states": ["RUNNING"]},
        {"before": "2026-01-01", "states": ["ODD"]},
        {"before": "2026-01-01", "limit": 0},
        {"before": "2026-01-01", "all": True},
    ],
)
def test_a_purge_without_clear_bounds_is_refused(hub: HubProcess, body: dict[str, Any]) -> None:
    answer = hub.call("POST", "/api/v1/executions/purge", body)
    assert (answer.status, answer.json["code"]) == (422, "invalid")


def test_the_commands_restart_replay_and_purge(hub: HubProcess, failed: dict[str, Any]) -> None:
    other = run(hub, n=9)
    (hub.data / "good").write_text("")
    done = hub_command("executions", "restart", failed["id"], "nope", other["id"], "-f", cwd=hub.data)
    # the one that is none is said, and the others are done
    assert done.returncode == 4
    assert 'no execution "nope"' in done.stderr
    assert done.stdout.count("ag/flaky  SUCCESS") == 2
    replayed = hub_command(
        "executions", "replay", "last", "-i", "n=3", "--from", "second", "-o", "json", cwd=hub.data
    )
    assert replayed.returncode == 3
    replayed = hub_command(
        "executions", "replay", failed["id"], "-i", "n=3", "-f", "-o", "json", cwd=hub.data
    )
    [one] = json.loads(replayed.stdout)
    assert (one["state"], one["replayOf"], one["inputs"]) == ("SUCCESS", failed["id"], {"n": 3})
    dry = hub_command(
        "executions", "purge", "--older-than", "0s", "--flow", "ag/flaky", "--dry-run", cwd=hub.data
    )
    removed = hub_command("executions", "purge", "--older-than", "0s", "--flow", "ag/flaky", cwd=hub.data)
    assert dry.stdout == removed.stdout
    assert int(removed.stdout) >= 3
    assert hub_command("executions", "list", "--flow", "ag/flaky", "-o", "name", cwd=hub.data).stdout == ""
    assert hub_command("executions", "purge", cwd=hub.data).returncode == 2


def test_a_followed_restart_that_fails_again_exits_with_1(hub: HubProcess, failed: dict[str, Any]) -> None:
    done = hub_command("executions", "restart", failed["id"], "-f", cwd=hub.data)
    assert done.returncode == 1
    assert "FAILED" in done.stdout
