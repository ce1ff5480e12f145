"""Scripts: outputs, environment, and the end of their whole process tree."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.model.execution import ExecutionState
from hub.plugin import Fail, InvalidInput
from hub.testing import Harness, harness
from plugins_core.script import marks, processes
from plugins_core.script.leftovers import end_leftovers
from plugins_core.script.outputs import outputs_in_line, read_output_file
from plugins_core.script.running import run_program
from tests.support.deep import DEEPER_SCRIPT, cleared
from tests.support.hub_process import HubProcess

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(
    not processes.HAS_PROC, reason="process trees are followed through /proc (Linux)"
)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path) as hub:
        yield hub


async def run(hub: Harness, tasks: str) -> tuple[str, dict[str, object], list[str]]:
    """The state, the last task's outputs and the log of a flow of these tasks."""
    await hub.put(f"id: f\nnamespace: t\ntasks:\n{tasks}")
    ended = await hub.run("t/f")
    runs = list((await hub.task_runs(ended.id)).values())
    lines = [line.message for line in await hub.logs(ended.id)]
    return ended.state.value, dict(runs[-1].outputs or {}), lines


async def test_outputs_come_from_the_file_and_from_marked_lines(hub: Harness) -> None:
    tasks = """
  - id: a
    type: script.shell
    script: |
      echo hello
      echo '::{"outputs": {"n": 3}}::'
      echo "key=value = more" >> "$HUB_OUTPUT"
"""
    state, outputs, lines = await run(hub, tasks)
    assert (state, lines) == ("SUCCESS", ["hello"])
    assert outputs == {"exitCode": 0, "vars": {"n": 3, "key": "value = more"}, "files": {}}


async def test_three_languages_pass_outputs_to_each_other(hub: Harness) -> None:
    tasks = """
  - id: sh
    type: script.shell
    script: echo "n=20" >> "$HUB_OUTPUT"
  - id: py
    type: script.python
    env: {N: "{{ outputs.sh.vars.n }}"}
    script: |
      import json, os
      json.dump({"n": int(os.environ["N"]) + 1}, open(os.environ["HUB_OUTPUT"], "w"))
  - id: third
    type: script.run
    interpreter: [perl]
    args: ["{{ outputs.py.vars.n }}"]
    script: |
      open(my $out, ">", $ENV{HUB_OUTPUT}); print $out "n=" . ($ARGV[0] * 2);
"""
    state, outputs, _ = await run(hub, tasks)
    assert (state, outputs["vars"]) == ("SUCCESS", {"n": "42"})


async def test_only_the_declared_environment_is_there(hub: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_SECRET_X", "hidden")
    monkeypatch.setenv("SOMETHING", "else")
    tasks = "  - {id: a, type: script.run, command: [env], env: {MINE: '1'}}"
    _, _, lines = await run(hub, tasks)
    names = {line.split("=")[0] for line in lines}
    assert names == {
        "MINE", "PATH", "LANG", "HUB_EXECUTION_ID", "HUB_TASK_RUN_ID", "HUB_ATTEMPT", "HUB_IDEMPOTENCY_KEY",
        "HUB_OUTPUT", "HUB_TASK_TOKEN",
    }  # fmt: skip


async def test_a_body_is_never_rendered(hub: Harness) -> None:
    tasks = "  - {id: a, type: script.shell, script: \"echo '{{ .Names }}' '{% raw %}{{ inputs.x }}{% endraw %}'\"}"
    _, _, lines = await run(hub, tasks)
    assert lines == ["{{ .Names }} {{ inputs.x }}"]


async def test_what_a_script_leaves_goes_however_deep_it_is(hub: Harness, tmp_path: Path) -> None:
    with cleared(tmp_path / "work"):
        tasks = f"  - {{id: a, type: script.python, script: {json.dumps(DEEPER_SCRIPT)}}}"
        state, _, _ = await run(hub, tasks)
        assert state == "SUCCESS"
        assert os.listdir(tmp_path / "work") == []


@pytest.mark.parametrize(
    "language",
    [
        "shell",
        "python",
        "run",
        pytest.param(
            "node",
            marks=pytest.mark.skipif(shutil.which("node") is None, reason="needs node on this machine"),
        ),
    ],
)
async def test_exit_codes_that_mean_success_are_the_ones_that_are_named(hub: Harness, language: str) -> None:
    bodies = {"shell": "exit 3", "python": "raise SystemExit(3)", "node": "process.exit(3)", "run": "exit 3"}
    more = ", interpreter: [sh]" if language == "run" else ""
    task = (
        f"  - {{id: a, type: script.{language}, script: '{bodies[language]}'{more}, successExitCodes: CODES}}"
    )
    state, outputs, _ = await run(hub, task.replace("CODES", "[0, 3]"))
    assert (state, outputs["exitCode"]) == ("SUCCESS", 3)
    assert (await run(hub, task.replace("CODES", "[0]")))[0] == "FAILED"


async def test_a_line_that_fails_ends_a_shell_script_unless_it_may(hub: Harness) -> None:
    task = '  - {id: a, type: script.shell, script: "false\\necho on", failFast: MODE}'
    for mode, state, wanted in (("true", "FAILED", []), ("false", "SUCCESS", ["on"])):
        found, _, lines = await run(hub, task.replace("MODE", mode))
        assert (found, [line for line in lines if line == "on"]) == (state, wanted)


async def test_an_exit_code_fails_the_task_and_keeps_its_outputs(hub: Harness) -> None:
    tasks = "  - {id: a, type: script.shell, script: 'echo k=1 > $HUB_OUTPUT; exit 9'}"
    state, outputs, _ = await run(hub, tasks)
    assert (state, outputs) == ("FAILED", {"exitCode": 9, "vars": {"k": "1"}, "files": {}})


async def test_a_program_that_does_not_exist_is_named(hub: Harness) -> None:
    _, _, lines = await run(hub, "  - {id: a, type: script.run, command: [no-such-program]}")
    assert '"no-such-program" cannot be started' in lines[0]


async def test_output_is_in_the_log_while_the_script_runs(hub: Harness) -> None:
    await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: script.shell, script: 'echo first; sleep 30'}]")
    with hub.node.services.bus.subscribe("logs") as news:
        started = await hub.start("t/f")
        async with asyncio.timeout(10):
            await news.next()
        assert [line.message for line in await hub.logs(started.id)] == ["first"]
    await hub.node.kill(started.id)
    await hub.ended(started.id)


_STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
        while True:
            time.sleep(1)
    os._exit(0)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
while True:
    time.sleep(1)
"""


def is_alive(pid: int) -> bool:
    found = processes.process(pid)
    return found is not None and not found.is_zombie


async def until_written(path: Path, lines: int) -> list[int]:
    async with asyncio.timeout(20):
        while not path.exists() or len(path.read_text().splitlines()) < lines:
            await asyncio.sleep(0.02)
    return [int(line) for line in path.read_text().splitlines()]


def _stubborn(pids: Path, timeout: str) -> str:
    body = "\n".join(f"      {line}" for line in _STUBBORN.splitlines())
    return (
        f"id: f\nnamespace: t\ntasks:\n  - id: a\n    type: script.run\n    interpreter: [python3]\n    timeout: {timeout}\n"
        f"    args: ['{pids}']\n    script: |\n{body}\n"
    )


async def test_a_tree_that_ignores_term_and_leaves_its_session_is_gone_after_its_timeout(
    hub: Harness, tmp_path: Path
) -> None:
    await hub.put(_stubborn(tmp_path / "pids", "2s"))
    began = time.monotonic()
    ended = await hub.run("t/f")
    assert ended.error is not None
    assert "timed out" in ended.error
    assert time.monotonic() - began < 2 + 7
    pids = await until_written(tmp_path / "pids", 2)
    assert not [pid for pid in pids if is_alive(pid)]


async def test_a_kill_ends_the_whole_tree(hub: Harness, tmp_path: Path) -> None:
    await hub.put(_stubborn(tmp_path / "pids", "1h"))
    started = await hub.start("t/f")
    pids = await until_written(tmp_path / "pids", 2)
    await hub.node.kill(started.id)
    async with asyncio.timeout(7):
        assert (await hub.ended(started.id)).state is ExecutionState.KILLED
    assert not [pid for pid in pids if is_alive(pid)]


async def test_what_a_script_left_running_is_ended_with_it(hub: Harness, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tasks = f"  - {{id: a, type: script.shell, script: 'setsid sleep 300 & echo $! > {pids}'}}"
    state, _, _ = await run(hub, tasks)
    [pid] = await until_written(pids, 1)
    assert state == "SUCCESS"
    assert not is_alive(pid)


async def test_a_kill_that_comes_while_leftovers_are_being_ended_is_heard(
    hub: Harness, tmp_path: Path
) -> None:
    """The leftover says when it is asked to end; just then the execution is killed."""
    fifo = tmp_path / "asked"
    os.mkfifo(fifo)
    tasks = f"""
  - id: a
    type: script.shell
    script: |
      mkfifo ready
      (trap 'echo asked > {fifo}' TERM; echo > ready; while :; do sleep 0.05; done) >/dev/null 2>&1 &
      read x < ready
  - {{id: b, type: return, value: ran}}
"""
    await hub.put(f"id: f\nnamespace: t\ntasks:\n{tasks}")
    started = await hub.start("t/f")
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(fifo.read_text) == "asked\n"
        await hub.node.kill(started.id)
        assert (await hub.ended(started.id)).state is ExecutionState.KILLED
    assert "b" not in await hub.task_runs(started.id)


async def test_a_script_may_remove_its_own_folder(hub: Harness) -> None:
    state, outputs, _ = await run(hub, "  - {id: a, type: script.shell, script: 'rm -rf \"$PWD\"'}")
    assert (state, outputs["vars"]) == ("SUCCESS", {})


async def test_an_argument_that_no_program_can_take_costs_no_descriptor(hub: Harness) -> None:
    tasks = "  - {id: a, type: script.run, command: [echo], args: ['{{ inputs.x }}']}"
    await hub.put(f"id: f\nnamespace: t\ninputs: [{{id: x, type: STRING}}]\ntasks:\n{tasks}")
    ended = await hub.run("t/f", {"x": "a\0b"})
    assert ended.error is not None
    assert "args: an argument cannot hold a NUL character" in ended.error


async def test_a_program_that_cannot_be_started_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for command in (["echo", "a\0b"], ["no-such-program"], ["echo", "\ud800"]):
        with pytest.raises(Fail, match="cannot be started"):
            await run_program(command, folder=tmp_path, env={}, token="i:t", on_line=lambda *_: None)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_one_script_s_end_leaves_others_alone(hub: Harness, tmp_path: Path) -> None:
    tasks = """
  - id: both
    type: flow.parallel
    tasks:
      - {id: quick, type: script.shell, script: 'sleep 300 & true'}
      - {id: slow, type: script.shell, script: 'sleep 0.5; echo still here'}
"""
    state, _, lines = await run(hub, tasks)
    assert (state, lines) == ("SUCCESS", ["still here"])


_ESCAPES = """
      note='trap "" TERM; echo $$ >> "$0"; sleep 300; true'
      (cd /; env -i setsid sh -c "$note" {pids} >/dev/null 2>&1 &)
      (env -i setsid sh -c "$note" {pids} >/dev/null 2>&1 &)
      (setsid sh -c "$note" {pids} &)
      (cd /; env -i setsid sh -c "(setsid sh -c '$note' {pids} &)" >/dev/null 2>&1 &)
      env -i sh -c "$note" {pids}
"""
"""Five processes that wipe what they were started with, each another part of it, and write their ids."""


async def test_what_wiped_its_environment_folder_and_session_is_gone_after_a_timeout(
    hub: Harness, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = _ESCAPES.format(pids=pids)
    await hub.put(
        "id: f\nnamespace: t\ntasks:\n"
        # another script runs meanwhile: an orphan of one is none of the other's
        "  - id: both\n    type: flow.parallel\n    tasks:\n"
        "      - {id: other, type: script.shell, script: 'exec sleep 300'}\n"
        "      - id: a\n        type: script.shell\n        timeout: 2s\n        allowFailure: true\n"
        "        script: |\n" + "".join(f"    {line}\n" for line in script.splitlines() if line)
    )
    with hub.node.services.bus.subscribe("taskRun") as news:
        started = await hub.start("t/f")
        found = await until_written(pids, 5)
        async with asyncio.timeout(2 + 7):
            while (await news.next()).details != {"path": "both/a", "state": "WARNING"}:
                pass
    assert not [pid for pid in found if is_alive(pid)]
    assert (await hub.task_runs(started.id))["both/other"].state == "RUNNING"
    await hub.node.kill(started.id)
    await hub.ended(started.id)


async def test_what_wiped_its_environment_is_ended_with_a_script_that_succeeds(
    hub: Harness, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = _ESCAPES.format(pids=pids).replace("\n      env -i", "\n      : env -i")
    wait = f"      while [ $(wc -l < {pids}) -lt 4 ]; do sleep 0.02; done"
    state, _, _ = await run(
        hub, f"  - id: a\n    type: script.shell\n    script: |\n      : > {pids}{script}{wait}\n"
    )
    assert state == "SUCCESS"
    assert not [pid for pid in await until_written(pids, 4) if is_alive(pid)]


async def test_what_a_killed_hub_left_is_gone_when_the_next_start_is_ready(tmp_path: Path) -> None:
    pids, flows = tmp_path / "pids", tmp_path / "flows"
    flows.mkdir()
    (flows / "f.hub.yaml").write_text(
        "id: f\nnamespace: t\ntasks:\n  - id: a\n    type: script.shell\n    script: |\n"
        # the second attempt, after the start, has nothing to do
        + f"      test ! -s {pids} || exit 0"
        + _ESCAPES.format(pids=pids)
    )
    with HubProcess(tmp_path, flows=flows) as hub:
        hub.call("POST", "/api/v1/flows/t/f/executions", {})
        found = await until_written(pids, 5)
        hub.kill()
        assert [pid for pid in found if is_alive(pid)] == found
        hub.start()
        assert not [pid for pid in found if is_alive(pid)]


async def test_leftovers_of_a_killed_hub_are_found_by_their_token() -> None:
    env = {**os.environ, processes.TOKEN: "instance-1:run"}
    ours = subprocess.Popen(["sh", "-c", "sleep 300 & exec sleep 300"], env=env, start_new_session=True)
    other = subprocess.Popen(["sleep", "300"], env={**os.environ, processes.TOKEN: "instance-2:run"})
    try:
        reaper = asyncio.create_task(asyncio.to_thread(ours.wait))
        assert await end_leftovers("instance-1") >= 1
        await reaper
        assert is_alive(other.pid)
        assert not [
            p for p in processes.process_table() if (processes.token_of(p) or "").startswith("instance-1:")
        ]
    finally:
        other.kill()
        other.wait()


def test_a_mark_is_inherited_and_not_kept() -> None:
    mark = marks.new_mark("instance-1")
    with marks.marking(mark):
        child = subprocess.Popen(["env", "-i", "sleep", "300"], start_new_session=True)
    try:
        assert marks.mark_of(child.pid) == mark
        assert marks.mark_of(os.getpid()) is None
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert marks.mark_of(child.pid) == mark, "the dead carry it until they are taken"
    child.wait()
    assert marks.is_of(mark, "instance-1")
    assert not marks.is_of(mark, "instance-2")
    assert marks.new_mark("instance-1") != mark


async def test_where_nothing_can_be_marked_scripts_run_all_the_same(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib, resource
resource.setrlimit(resource.RLIMIT_RTTIME, (1000, 1000))
from plugins_core.script.running import run_program
folder, lines = pathlib.Path({str(tmp_path)!r}), []
code = asyncio.run(run_program(["sh", "-c", "sleep 300 & echo $!"], folder=folder, env={{"PATH": "/usr/bin:/bin"}},
                               token="i:t", on_line=lambda stream, line: lines.append(line)))
print(code, lines[0])
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    code, pid = done.stdout.split()
    assert code == "0"
    assert not is_alive(int(pid))


def test_a_line_that_only_looks_like_outputs_is_text() -> None:
    assert outputs_in_line('::{"outputs": {"a": 1}}::') == {"a": 1}
    for line in ('::{"outputs": 3}::', "::{oops}::", 'x ::{"outputs": {}}::', "plain"):
        assert outputs_in_line(line) is None


def test_a_bad_output_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("a=1\nnonsense\n")
    with pytest.raises(InvalidInput, match="line 2: expected key=value"):
        read_output_file(path)
    path.write_text('{"a": [1, 2]}')
    assert read_output_file(path) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ("mkfifo $HUB_OUTPUT", "is not a regular file"),
        ("ln -s /dev/zero $HUB_OUTPUT", "is a symbolic link"),
        ("mkdir $HUB_OUTPUT", "is not a regular file"),
        ("truncate -s 11M $HUB_OUTPUT", "is larger than 10 MiB"),
    ],
)
async def test_an_output_file_that_is_none_fails_the_task_and_nothing_else(
    hub: Harness, make: str, problem: str
) -> None:
    async with asyncio.timeout(20):
        state, _, lines = await run(
            hub, f"  - {{id: a, type: script.shell, script: 'rm -f $HUB_OUTPUT; {make}'}}"
        )
    assert state == "FAILED"
    assert problem in lines[-1]


@pytest.mark.parametrize(
    "text", [r'{"a": "\ud800", "n": 12345678901234567890}', '{"a": 1e999, "n": 123456789012345678901}']
)
async def test_outputs_that_cannot_be_stored_fail_the_task(hub: Harness, text: str) -> None:
    tasks = f"  - {{id: a, type: script.run, interpreter: [sh], env: {{T: '{text}'}}, script: 'printf %s \"$T\" > $HUB_OUTPUT'}}"
    state, outputs, lines = await run(hub, tasks)
    assert (state, outputs["vars"]) == ("FAILED", {})
    assert "$HUB_OUTPUT is not JSON" in lines[-1]
    assert outputs_in_line(f'::{{"outputs": {text}}}::') is None


def test_a_value_keeps_every_character_but_the_end_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes("a=x\fy\x1cz\u2028w\r\nb=1\n".encode())
    assert read_output_file(path) == {"a": "x\fy\x1cz\u2028w", "b": "1"}


def test_a_deeply_nested_line_is_text() -> None:
    deep = "[" * 30_000 + "1" * 20 + "]" * 30_000
    assert outputs_in_line(f'::{{"outputs": {{"a": {deep}}}}}::') is None
