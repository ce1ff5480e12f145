"""The command as its users type it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess, hub_command

ROOT = Path(__file__).parent.parent.parent
_CHAIN = """id: chain
namespace: acc
inputs: [{id: n, type: INT, defaults: 2}]
tasks:
  - id: sh
    type: script.shell
    env: {N: "{{ inputs.n }}"}
    script: echo "n=$((N + 1))" >> "$HUB_OUTPUT"; echo "in shell"
  - id: py
    type: script.python
    env: {N: "{{ outputs.sh.vars.n }}"}
    script: |
      import json, os
      print("::" + json.dumps({"outputs": {"n": int(os.environ["N"]) * 10}}) + "::")
outputs: [{id: n, type: INT, value: "{{ outputs.py.vars.n }}"}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chain.hub.yaml").write_text(_CHAIN)
    return tmp_path


def test_a_file_runs_without_a_server_and_shows_what_happens(folder: Path) -> None:
    done = hub_command("run", "chain.hub.yaml", "-i", "n=5", cwd=folder)
    assert done.returncode == 0, done.stderr
    for words in ("in shell", "SUCCESS  sh", "SUCCESS  py", "acc/chain SUCCESS"):
        assert words in done.stdout


def test_json_output_is_the_execution_and_nothing_else(folder: Path) -> None:
    done = hub_command("run", "chain.hub.yaml", "-o", "json", cwd=folder)
    execution = json.loads(done.stdout)
    assert (execution["state"], execution["outputs"]) == ("SUCCESS", {"n": 30})
    assert "in shell" in done.stderr


def test_a_failed_flow_exits_with_1(folder: Path) -> None:
    (folder / "bad.yaml").write_text(
        "id: b\nnamespace: n\ntasks: [{id: a, type: execution.fail, message: oh no}]"
    )
    done = hub_command("run", "bad.yaml", cwd=folder)
    assert done.returncode == 1
    assert "oh no" in done.stdout


def test_bad_input_exits_with_3_and_names_it(folder: Path) -> None:
    done = hub_command("run", "chain.hub.yaml", "-i", "n=many", "-i", "x=1", cwd=folder)
    assert done.returncode == 3
    assert 'input "n": expected a whole number' in done.stderr
    assert 'unknown input "x"' in done.stderr


def test_a_trigger_can_be_played_with_a_body(folder: Path) -> None:
    (folder / "hook.yaml").write_text(
        "id: h\nnamespace: n\ntriggers: [{id: t, type: webhook, key: k}]\n"
        'tasks: [{id: a, type: log, message: "got {{ trigger.body.name }} by {{ trigger.method }}"}]'
    )
    (folder / "body.json").write_text('{"name": "Ada"}')
    done = hub_command("run", "hook.yaml", "--trigger", "t", "--data", "@body.json", cwd=folder)
    assert "got Ada by POST" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "nope.yaml"], 4),
        (["run", "acc/chain"], 6),
        (["flows", "list"], 6),
        (["flows", "list", "--server", "http://127.0.0.1:9"], 6),
        (["validate", "nope"], 4),
        (["serve", "--host", "0.0.0.0"], 3),
        (["no-such-command"], 2),
        (["run"], 2),
    ],
)
def test_exit_codes_say_what_went_wrong_without_a_traceback(
    folder: Path, arguments: list[str], code: int
) -> None:
    done = hub_command(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_every_command_has_help(folder: Path) -> None:
    for command in (
        [],
        ["serve"],
        ["run"],
        ["validate"],
        ["flows"],
        *(["flows", one] for one in ("get", "push", "pull", "diff", "delete", "revisions")),
        ["executions", "list"],
        ["events", "tail"],
        ["demo"],
    ):
        done = hub_command(*command, "--help", cwd=folder)
        assert done.returncode == 0
        assert "Usage:" in done.stdout


_BROKEN = {
    "dup.hub.yaml": ("id: a\nnamespace: n\nid: b\ntasks: [{id: a, type: log, message: x}]", '3:1  error: duplicate key "id"'),
    "missing.hub.yaml": ("id: a\nnamespace: n", '1:1  error: "tasks" is required'),
    "type.hub.yaml": (
        "id: t\nnamespace: n\ntasks:\n  - {id: a, type: lgo, message: x}", '4:19  error: unknown task type "lgo"',
    ),
    "input.hub.yaml": (
        'id: i\nnamespace: n\ninputs: [{id: day, type: DATE}]\ntasks:\n  - {id: a, type: log, message: "{{ inputs.dya }}"}',
        '5:44  error: unknown input "dya"',
    ),
    "later.hub.yaml": (
        'id: l\nnamespace: n\ntasks:\n  - {id: a, type: return, value: "{{ outputs.b.value }}"}\n  - {id: b, type: return}',
        '4:38  error: task "b" has not run by then',
    ),
    "output.hub.yaml": (
        'id: o\nnamespace: n\ntasks:\n  - {id: a, type: return, value: 1}\n  - {id: b, type: return, value: "{{ outputs.a.vaule }}"}',
        '5:48  error: "outputs.a" has no output "vaule"',
    ),
    "literal.hub.yaml": (
        "id: m\nnamespace: n\ntasks:\n  - {id: a, type: log, message: \"{{ ''.__class__ }}\"}",
        '4:40  error: it is text; it has no member "__class__"',
    ),
    "script.hub.yaml": (
        "id: s\nnamespace: n\ntasks:\n  - id: a\n    type: script.shell\n    script: |\n      true\n      echo {{ trigger.body }}",
        "8:12  error: a script is never rendered",
    ),
    "cron.hub.yaml": (
        'id: c\nnamespace: n\ntriggers:\n  - {id: t, type: schedule.cron, cron: "0 0 31 2 *"}\ntasks: [{id: a, type: log, message: x}]',
        '4:40  error: cron: cron "0 0 31 2 *" can never fire',
    ),
    "yaml.hub.yaml": ("id: y\nnamespace: n\ntasks: [", "error: not YAML"),
}  # fmt: skip


def test_validate_names_a_loop_of_a_folder_with_its_place(tmp_path: Path) -> None:
    for name, other in (("ping", "pong"), ("pong", "ping")):
        (tmp_path / f"{name}.hub.yaml").write_text(
            f"id: {name}\nnamespace: n\ntriggers:\n  - {{id: t, type: flow.finished, flow: {other}}}\n"
            "tasks: [{id: a, type: log, message: x}]\n"
        )
    done = hub_command("validate", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 3
    assert f"{tmp_path}/pong.hub.yaml:4:5" in done.stdout
    assert "would be started by its own ends, on and on: n/pong → n/ping → n/pong" in done.stdout


def test_validate_names_each_mistake_with_its_place(tmp_path: Path) -> None:
    for name, (source, _) in _BROKEN.items():
        (tmp_path / name).write_text(source + "\n")
    done = hub_command("validate", ".", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr + done.stdout
    for name, (_, wanted) in _BROKEN.items():
        assert f"{name}:{wanted}" in done.stdout or wanted.startswith("error"), (name, done.stdout)
    assert done.stdout.count("^") >= len(_BROKEN) - 1


@pytest.mark.parametrize("format", ["json", "github", "gitlab", "azure", "sarif"])
def test_validate_speaks_the_formats_of_others(tmp_path: Path, format: str) -> None:
    (tmp_path / "a.hub.yaml").write_text("id: a\nnamespace: n\n")
    done = hub_command("validate", "a.hub.yaml", "--format", format, cwd=tmp_path)
    assert done.returncode == 3
    assert "is required" in done.stdout
    assert hub_command("validate", "a.hub.yaml", "-o", format, cwd=tmp_path).stdout == done.stdout
    if format in ("json", "gitlab", "sarif"):
        json.loads(done.stdout)


def test_the_version_is_quick(tmp_path: Path) -> None:
    # what is imported decides, not the machine: the engine and its libraries must stay out
    code = "import sys; sys.argv = ['hub', '--version']\ntry:\n    from hub.cli import main; main()\nexcept SystemExit:\n    pass\n"
    code += "print([name for name in ('aiohttp', 'pydantic', 'yaml', 'rich', 'uvloop', 'structlog') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_hub_lists_follows_and_kills(folder: Path) -> None:
    (folder / "flows").mkdir()
    (folder / "flows" / "slow.hub.yaml").write_text(
        "id: slow\nnamespace: acc\ntriggers: [{id: h, type: webhook, key: k},"
        ' {id: c, type: schedule.cron, cron: "0 3 * * *"}]\n'
        "tasks: [{id: a, type: script.shell, script: 'echo begun; sleep 60'}]"
    )
    shutil.move(folder / "chain.hub.yaml", folder / "flows")
    with HubProcess(folder, flows=folder / "flows"):
        assert "acc/slow" in hub_command("flows", "list", cwd=folder).stdout
        listed = hub_command("triggers", "list", cwd=folder).stdout
        curl = next(line for line in listed.splitlines() if line.startswith("curl "))
        assert "03:00:00.000Z" in listed
        answer = json.loads(
            subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
        )
        [execution] = answer["executionIds"]
        until = time.monotonic() + 10
        while "begun" not in hub_command("executions", "logs", "last", cwd=folder).stdout:
            assert time.monotonic() < until
        assert execution in hub_command("executions", "list", "--state", "running", cwd=folder).stdout
        assert "KILL" in hub_command("executions", "kill", "last", cwd=folder).stdout
        followed = hub_command("executions", "logs", execution, "-f", cwd=folder)
        assert "begun" in followed.stdout
        got = json.loads(hub_command("executions", "get", execution, "-o", "json", cwd=folder).stdout)
        assert got["state"] == "KILLED"
        assert "/acc/slow/h" in hub_command("events", "list", cwd=folder).stdout
        done = hub_command("run", "acc/chain", "-i", "n=1", cwd=folder)
        assert (done.returncode, "acc/chain SUCCESS" in done.stdout) == (0, True)
        detached = hub_command("run", "acc/chain", "--detach", cwd=folder).stdout.strip()
        assert detached in hub_command("executions", "list", "-o", "name", cwd=folder).stdout
        second = hub_command("serve", "--port", "0", "--data", str(folder), cwd=folder)
        assert second.returncode == 7
        assert "is held by process" in second.stderr


def test_a_changed_file_is_a_new_revision_and_a_bad_one_keeps_the_last(folder: Path) -> None:
    flows = folder / "flows"
    flows.mkdir()
    path = flows / "chain.hub.yaml"
    shutil.move(folder / "chain.hub.yaml", path)

    def until(check: object) -> None:
        end = time.monotonic() + 15
        while not check():  # type: ignore[operator]
            assert time.monotonic() < end
            time.sleep(0.05)

    with HubProcess(folder, flows=flows) as hub:
        path.write_text(_CHAIN.replace("* 10", "* 100"))
        until(lambda: len(hub.call("GET", "/api/v1/flows/acc/chain/revisions").json["items"]) == 2)
        path.write_text("id: chain\nnamespace: acc\n")
        until(lambda: hub.call("GET", "/api/v1/flows").json["broken"])
        assert '"tasks" is required' in hub_command("flows", "list", cwd=folder).stderr
        assert "acc/chain SUCCESS" in hub_command("run", "acc/chain", cwd=folder).stdout
        assert hub.call("PUT", "/api/v1/flows/acc/chain", _CHAIN.encode()).status == 409
        path.unlink()
        until(lambda: not hub.call("GET", "/api/v1/flows").json["items"])
        assert hub.call("GET", "/api/v1/executions").json["items"]


def test_the_demo_shows_its_event_and_lines_that_work(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hub", "demo", "--port", "0", "--data", str(tmp_path / "d")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    text = ""
    while "Ctrl-C" not in text:
        line = process.stdout.readline()
        assert line
        text += line
    assert re.search(r"^202 \{", text, re.M)
    assert re.search(r"^demo/hello SUCCESS in \d+ ms$", text, re.M)
    for line in [one.strip() for one in text.splitlines() if one.startswith("  ")]:
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 0


def test_a_taken_port_is_named_with_the_way_to_another(tmp_path: Path) -> None:
    with HubProcess(tmp_path) as hub:
        other = tmp_path / "other"
        other.mkdir()
        done = hub_command("serve", "--port", str(hub.port), "--data", str(other), cwd=tmp_path)
        assert done.returncode == 7
        assert f"127.0.0.1:{hub.port}" in done.stderr
        assert "--port" in done.stderr
