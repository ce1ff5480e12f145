"""A ``tasks.py`` beside the flows, in real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess, hub_command

_TASKS = '''
from hub.plugin import task

@task
def greet(name: str, times: int = 1) -> str:
    """Greet somebody.

    Args:
        name: Whom to greet.
    """
    return " ".join([f"Hello, {name}!"] * times)
'''
_FLOW = """id: f
namespace: t
tasks: [{id: a, type: local.greet, name: Ada}]
outputs: [{id: text, type: STRING, value: "{{ outputs.a.value }}"}]
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "tasks.py").write_text(_TASKS)
    (folder / "f.hub.yaml").write_text(_FLOW)
    return folder


def test_a_hub_that_was_given_the_folder_runs_its_tasks(flows: Path, tmp_path: Path) -> None:
    with HubProcess(tmp_path, flows=flows) as hub:
        started = hub.call("POST", "/api/v1/flows/t/f/executions", {}).json
        assert hub.ended(started["id"])["outputs"] == {"text": "Hello, Ada!"}
        [report] = [
            one
            for one in hub.call("GET", "/api/v1/plugins").json["items"]
            if one["name"].endswith("tasks.py")
        ]
        assert (report["state"], report["types"]) == ("loaded", ["local.greet"])
        assert "Whom to greet." in json.dumps(hub.call("GET", "/api/v1/schemas/flow.json").json)


def test_a_file_that_uses_them_is_run_and_checked_where_the_folder_is_named(
    flows: Path, tmp_path: Path
) -> None:
    file = str(flows / "f.hub.yaml")
    done = hub_command("run", file, "--flows", "flows", "-o", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"text": "Hello, Ada!"}
    assert hub_command("validate", "flows", "--flows", "flows", cwd=tmp_path).returncode == 0
    unnamed = hub_command("validate", "flows", cwd=tmp_path)
    assert unnamed.returncode == 3
    assert "a folder that --flows names on the command line" in unnamed.stdout
    (flows / "tasks.py").write_text("def broken(:\n")
    broken = hub_command("validate", "flows", "--flows", "flows", cwd=tmp_path)
    assert broken.returncode != 0
    assert f"{flows / 'tasks.py'}:1: SyntaxError" in broken.stderr
    listed = hub_command("plugins", "list", "--flows", "flows", "-o", "json", cwd=tmp_path)
    [report] = [one for one in json.loads(listed.stdout) if one["name"].endswith("tasks.py")]
    assert report["state"] == "failed"
    assert "SyntaxError" in report["error"]


_STUCK = """
import asyncio, time
from hub.plugin import task

@task
async def stuck() -> None:
    \"""Stay in a thread of the loop's own.\"""
    await asyncio.to_thread(time.sleep, 3600)
"""
_STUCK_FLOW = "id: f\nnamespace: t\ntasks: [{id: a, type: local.stuck, timeout: PT0.3S}]\n"


def test_a_thread_that_a_task_left_holds_up_no_end(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "tasks.py").write_text(_STUCK)
    (flows / "f.hub.yaml").write_text(_STUCK_FLOW)
    done = hub_command("run", "flows/f.hub.yaml", "--flows", "flows", cwd=tmp_path, timeout=30)
    assert done.returncode == 1
    assert "timed out after PT0.3S" in done.stdout
    assert 'left behind at the end: the thread "asyncio' in done.stderr
    with HubProcess(tmp_path, flows=flows) as hub:
        started = hub.call("POST", "/api/v1/flows/t/f/executions", {}).json
        assert hub.ended(started["id"])["state"] == "FAILED"
        assert hub.stop(timeout=15) == 0
    assert 'left behind at the end: the thread "asyncio' in hub.log.read_text()
