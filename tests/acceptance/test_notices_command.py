"""``hub notices`` against a real hub: what is owed, what arrived, what was given up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLOW = (
    "id: f\nnamespace: t\nnotify: {on: [SUCCESS, FAILED], to: oncall}\n"
    "tasks: [{id: a, type: execution.fail, message: no stock left}]\n"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("hub")
    flows = folder / "flows"
    flows.mkdir()
    (flows / "f.hub.yaml").write_text(_FLOW)
    with HubProcess(folder, flows=flows) as hub:
        yield hub


def run(hub: HubProcess, *arguments: str) -> Any:
    return hub_command("notices", *arguments, "--server", hub.url, cwd=hub.data)


def test_a_notice_to_nobody_is_listed_shown_retried_and_dropped(hub: HubProcess) -> None:
    said = run(hub, "list").stderr
    assert said == "no notices: notify: in a flow or in hub.yaml says who is told of what\n"
    started = hub.call("POST", "/api/v1/flows/t/f/executions", {}).json
    hub.ended(started["id"])
    listed = run(hub, "list", "--execution", started["id"], "-o", "json")
    [notice] = json.loads(listed.stdout)
    assert notice["subject"] == "[FAILED] t/f"
    table = run(hub, "list").stdout
    assert "OWED SINCE" in table.upper()
    assert "oncall" in table
    shown = run(hub, "show", notice["id"]).stdout
    assert "no stock left" in shown
    retried = run(hub, "retry", notice["id"], "-o", "name")
    assert (retried.returncode, retried.stdout) == (0, notice["id"] + "\n")
    dropped = run(hub, "drop", notice["id"], "none")
    assert dropped.stdout == f"dropped {notice['id']}\n"
    assert dropped.returncode == 4
    assert 'no notice "none"' in dropped.stderr
    assert run(hub, "list", "--state", "dropped", "-o", "name").stdout == notice["id"] + "\n"
    assert "no notifiers" in run(hub, "notifiers").stderr


def test_a_name_that_hub_yaml_does_not_have_is_warned_about(hub: HubProcess, tmp_path: Path) -> None:
    message = 'no notifier is called "oncall" in hub.yaml'
    # of a file in the log, of what is put in the answer, of what is validated in its list
    assert message in hub.log.read_text()
    put = hub.call("PUT", "/api/v1/flows/t/g", _FLOW.replace("id: f", "id: g").encode())
    assert (put.status, [one["message"] for one in put.json["warnings"]]) == (201, [message])
    (tmp_path / "f.hub.yaml").write_text(_FLOW)
    assert "0 warnings" in hub_command("validate", "f.hub.yaml", cwd=tmp_path).stderr
    (tmp_path / "hub.yaml").write_text("notifiers: {oncal: {type: webhook, url: 'http://x'}}\n")
    validated = hub_command("validate", "f.hub.yaml", cwd=tmp_path)
    assert validated.returncode == 0
    assert f"warning: {message}" in validated.stdout
    assert 'did you mean "oncal"?' in validated.stdout


def test_a_mistake_in_hub_yaml_stops_the_start_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("notifiers:\n  oncall: {type: webhok, url: http://x}\n")
    ended = hub_command("serve", "--port", "0", "--data", str(tmp_path), cwd=tmp_path)
    assert ended.returncode == 3
    assert "hub.yaml:2:18" in ended.stderr
    assert 'did you mean "webhook"?' in ended.stderr


def test_a_flow_that_runs_by_itself_says_who_was_not_told(tmp_path: Path) -> None:
    (tmp_path / "f.hub.yaml").write_text(_FLOW)
    ended = hub_command("run", "f.hub.yaml", cwd=tmp_path)
    assert ended.returncode == 1
    assert 'not told oncall: no notifier is called "oncall"' in ended.stderr
