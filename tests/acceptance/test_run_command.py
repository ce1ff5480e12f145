"""``hub run``: what it is given, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess, hub_command

_TEXT = """id: text
namespace: r
inputs: [{id: t, type: STRING, defaults: none}]
triggers: [{id: h, type: webhook, key: k}]
tasks: [{id: a, type: log, message: "got {{ inputs.t }}"}]
"""
_SLOW = """id: slow
namespace: r
tasks:
  - id: a
    type: script.shell
    script: |
      setsid sleep 300 &
      echo "pids $$ $!"
      sleep 300
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.hub.yaml").write_text(_TEXT)
    (tmp_path / "slow.hub.yaml").write_text(_SLOW)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "note").write_text("hello")
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_file_with_everything_it_started(folder: Path, number: signal.Signals) -> None:
    temporary = folder / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "run", "slow.hub.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    line = ""
    while "pids" not in line:
        line = process.stdout.readline()
        assert line
    pids = [int(word) for word in line.split("pids")[1].split()]
    process.send_signal(number)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait(40) == 130
    assert "KILLED" in rest
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert list(temporary.iterdir()) == []


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "t=@binary"], "binary cannot be read: it is not UTF-8 text"),
        (["-i", "t=@missing"], "missing cannot be read: No such file or directory"),
        (["-i", "t=@."], ". cannot be read: Is a directory"),
        (["--data", "@binary"], "binary cannot be read: it is not UTF-8 text"),
        (["--data", "@missing"], "missing cannot be read: No such file or directory"),
        (["--data", "[" * 5000], "not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_usage_error(folder: Path, arguments: list[str], words: str) -> None:
    done = hub_command("run", "text.hub.yaml", *arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_an_input_comes_from_a_file_or_begins_with_an_at_sign(folder: Path) -> None:
    assert "got hello" in hub_command("run", "text.hub.yaml", "-i", "t=@note", cwd=folder).stdout
    assert "got @note" in hub_command("run", "text.hub.yaml", "-i", "t=@@note", cwd=folder).stdout


@pytest.mark.parametrize("name", ["nofile", "a/b/c", "r/", "./nofile"])
def test_a_name_that_can_be_no_flow_is_not_found(folder: Path, name: str) -> None:
    done = hub_command("run", name, cwd=folder)
    assert done.returncode == 4
    assert f"there is no file {name}, and" in done.stderr


def test_a_name_without_a_hub_is_said_to_be_no_file_either(folder: Path) -> None:
    done = hub_command("run", "r/text", cwd=folder)
    assert done.returncode == 6
    assert f"there is no file r/text, and no hub serves {folder}" in done.stderr


def test_a_hub_that_goes_while_a_run_is_followed_is_said(folder: Path) -> None:
    with HubProcess(folder, flows=folder) as hub:
        command = [sys.executable, "-m", "hub", "run", "r/slow"]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        ) as process:
            assert process.stdout is not None
            while "pids" not in process.stdout.readline():
                assert process.poll() is None
            hub.kill()
            _, said = process.communicate(timeout=30)
        assert process.returncode == 6
        [execution] = [word for word in said.split() if word.count("-") == 4][:1]
        assert said == (
            f"error: the hub has gone while the execution {execution} ran: no hub answers at {hub.url}:"
            " connection refused\n"
            f"  hint: it goes on when the hub is started again: hub executions logs {execution} -f\n"
        )
        hub.start()
        assert hub_command("executions", "kill", execution, cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sevre"], 'error: no such command "sevre"\n  hint: did you mean "serve"?\n'),
        (["zzz"], 'error: no such command "zzz"\n  hint: hub --help lists those there are\n'),
        (
            ["run"],
            "error: missing argument 'FILE|NAMESPACE/FLOW'\n"
            "  hint: hub run [OPTIONS] FILE|NAMESPACE/FLOW; hub run --help says more\n",
        ),
        (
            ["run", "x.yaml", "--detach"],
            "error: --detach needs a hub: a FILE runs in this process\n"
            "  hint: hub run [OPTIONS] FILE|NAMESPACE/FLOW; hub run --help says more\n",
        ),
    ],
)
def test_a_wrong_command_line_is_said_as_every_other_error_is(
    folder: Path, arguments: list[str], said: str
) -> None:
    done = hub_command(*arguments, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_detached_run_prints_its_id_or_the_execution(folder: Path) -> None:
    flows = folder / "flows"
    flows.mkdir()
    (folder / "text.hub.yaml").rename(flows / "text.hub.yaml")
    with HubProcess(folder, flows=flows) as hub:
        missed = hub_command("run", "r/txt", cwd=folder)
        assert (missed.returncode, missed.stderr) == (
            4,
            'error: no flow r/txt\n  hint: did you mean "r/text"?\n',
        )
        plain = hub_command("run", "r/text", "--detach", cwd=folder).stdout.strip()
        assert hub.ended(plain)["state"] == "SUCCESS"
        started = json.loads(hub_command("run", "r/text", "--detach", "-o", "json", cwd=folder).stdout)
        assert hub.ended(started["id"])["flow"] == "text"
