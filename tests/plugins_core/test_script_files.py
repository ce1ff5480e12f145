"""Files that go into a script's folder, and those that are kept from it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidFlow
from hub.model.execution import Execution
from hub.testing import Harness, harness
from plugins_core.script import processes
from plugins_core.script.patterns import pattern_of

pytestmark = pytest.mark.skipif(not processes.HAS_PROC, reason="scripts' trees are followed through /proc")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path) as hub:
        yield hub


async def run(
    hub: Harness, tasks: str, inputs: dict[str, Any] | None = None, head: str = ""
) -> tuple[Execution, dict[str, Any]]:
    """The ended execution and the last task's outputs."""
    await hub.put(f"id: f\nnamespace: t\n{head}tasks:\n{tasks}")
    ended = await hub.run("t/f", inputs or {})
    runs = list((await hub.task_runs(ended.id)).values())
    return ended, dict(runs[-1].outputs or {})


async def content(hub: Harness, uri: str) -> bytes:
    return await hub.node.services.payloads.store.get(uri)


def matches(pattern: str, path: str) -> bool:
    found = pattern_of(pattern)
    state = found.start()
    for part in path.split("/"):
        state = found.step(state, part)
    return found.is_match(state)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a.csv", "a.csv", True),
        ("*.csv", "a.csv", True),
        ("*.csv", "x/a.csv", False),
        ("*.csv", ".a.csv", False),
        (".*.csv", ".a.csv", True),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "x/y/a.csv", True),
        ("**/*.csv", "x/.y/a.csv", False),
        ("out/**", "out/x/y", True),
        ("out/**", "other/x", False),
        ("out/**/x/**/z", "out/x/x/y/z", True),
        ("out/**/x/**/z", "out/y/z", False),
        ("[ab]?.txt", "b1.txt", True),
        ("[!ab]?.txt", "b1.txt", False),
        ("[[]x]", "[x]", True),
        ("**", "a", True),
    ],
)
def test_a_pattern_matches_part_by_part(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/.", "x\0y", "a/"])
async def test_a_name_that_may_lead_out_of_the_folder_is_refused_when_the_flow_is_saved(
    hub: Harness, name: str
) -> None:
    given = '"' + name.replace("\0", "\\0") + '"'
    for field in (f"inputFiles: {{{given}: x}}", f"outputFiles: [{given}]"):
        with pytest.raises(InvalidFlow, match=r"relative|NUL"):
            await hub.put(
                f"id: f\nnamespace: t\ntasks:\n  - {{id: a, type: script.shell, script: 'true', {field}}}\n"
            )


async def test_a_rendered_name_that_leads_out_of_the_folder_fails_the_task(
    hub: Harness, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hidden")
    ended, _ = await run(
        hub,
        "  - {id: a, type: script.shell, script: 'true', outputFiles: ['{{ inputs.x }}']}",
        {"x": "../../secret"},
        "inputs: [{id: x, type: STRING}]\n",
    )
    assert ended.state.value == "FAILED"
    assert "is not a plain relative name" in str(ended.error)


async def test_files_go_in_and_out_and_from_one_script_to_the_next(hub: Harness) -> None:
    tasks = """
  - id: make
    type: script.shell
    inputFiles: {conf/name.txt: "{{ inputs.who }}", n: "{{ inputs.n }}", yes: true}
    outputFiles: [out.txt, "parts/**"]
    script: |
      printf '%s %s %s' "$(cat conf/name.txt)" "$(cat n)" "$(cat yes)" > out.txt
      mkdir -p parts/deep
      echo 1 > parts/one; head -c 3000000 /dev/zero > parts/deep/two
  - id: use
    type: script.shell
    inputFiles:
      a/in.txt: "{{ outputs.make.files['out.txt'] }}"
      b.bin: {uri: "{{ outputs.make.files['parts/deep/two'] }}"}
      plain: {text: "{{ outputs.make.files['out.txt'] }}"}
    script: |
      echo "got=$(cat a/in.txt)" >> $HUB_OUTPUT
      echo "size=$(wc -c < b.bin)" >> $HUB_OUTPUT
      echo "plain=$(cut -c1-7 plain)" >> $HUB_OUTPUT
"""
    head = "inputs: [{id: who, type: STRING}, {id: n, type: INT}]\n"
    ended, outputs = await run(hub, tasks, {"who": "Ada {{ x }}", "n": 7}, head)
    assert ended.state.value == "SUCCESS"
    assert outputs["vars"] == {"got": "Ada {{ x }} 7 true", "size": "3000000", "plain": "hub:///"}
    made = (await hub.task_runs(ended.id))["make"].outputs or {}
    assert sorted(made["files"]) == ["out.txt", "parts/deep/two", "parts/one"]
    assert await content(hub, made["files"]["parts/one"]) == b"1\n"


async def test_text_is_written_as_it_is(hub: Harness) -> None:
    tasks = """
  - id: a
    type: script.shell
    inputFiles: {text: "{{ inputs.x }}"}
    outputFiles: [text]
    script: "true"
"""
    text = "é\r\n\n{{ no }} hub:///ab/not-a-file\n"
    _, outputs = await run(hub, tasks, {"x": text}, "inputs: [{id: x, type: STRING}]\n")
    assert await content(hub, outputs["files"]["text"]) == text.encode()


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("hub:///00/owner/nothing", "is not in this file store any more"),
        ("hub:///../../hub.instance", "is not in this file store"),
        ("file:///etc/passwd", "is not in this file store"),
    ],
)
async def test_a_uri_that_is_not_in_the_store_fails_the_task(hub: Harness, uri: str, problem: str) -> None:
    ended, _ = await run(
        hub, f"  - {{id: a, type: script.shell, script: 'true', inputFiles: {{a: {{uri: '{uri}'}}}}}}"
    )
    assert ended.state.value == "FAILED"
    assert problem in str(ended.error)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{script.sh: x}", "is written by the hub itself"),
        ("{.hub-output: x}", "is written by the hub itself"),
        ("{script.sh/x: x}", '"script.sh" is a file'),
        ("{a: x, a/b: y}", '"a" is a file'),
        ("{a: [1]}", "toJson"),
        ("{a: {url: x}}", "toJson"),
        ("{a: {uri: x, text: y}}", "toJson"),
    ],
)
async def test_input_files_that_cannot_be_are_refused_when_the_flow_is_saved(
    hub: Harness, given: str, problem: str
) -> None:
    with pytest.raises(InvalidFlow, match=problem):
        await hub.put(
            f"id: f\nnamespace: t\ntasks:\n  - {{id: a, type: script.shell, script: 'true', inputFiles: {given}}}\n"
        )


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ("true", '"out" was not written'),
        ("ln -s /etc/passwd out", '"out" is a symbolic link'),
        ("mkfifo out", '"out" is not a regular file'),
        ("mkdir out", '"out" is a folder'),
        ("truncate -s 1100M out", "more than 1024 MiB together"),
        ('rm -rf "$PWD"', '"out" was not written'),
        ('rm -rf "$PWD"; mkdir -p elsewhere || true; ln -s /etc "$PWD"', '"out" was not written'),
    ],
)
async def test_a_named_file_that_is_none_fails_the_task(hub: Harness, make: str, problem: str) -> None:
    ended, outputs = await run(
        hub, f"  - {{id: a, type: script.run, interpreter: [sh], script: '{make}', outputFiles: [out]}}"
    )
    assert ended.state.value == "FAILED"
    assert problem in str(ended.error)
    assert outputs["files"] == {}


async def test_no_link_on_the_way_is_followed(hub: Harness, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("hidden")
    tasks = f"""
  - id: a
    type: script.shell
    outputFiles: ["**", link/secret.txt]
    allowFailure: true
    script: |
      ln -s {tmp_path}/outside link
      ln -s {tmp_path}/outside/secret.txt secret.txt
      mkfifo pipe
      echo mine > mine.txt
"""
    ended, outputs = await run(hub, tasks)
    assert list(outputs["files"]) == ["mine.txt"]
    lines = [line.message for line in await hub.logs(ended.id)]
    assert "outputFiles: left out 3" in lines[0]
    assert '"link/secret.txt" was not written' in lines[1]


async def test_patterns_pass_over_what_the_hub_put_there_and_what_is_hidden(hub: Harness) -> None:
    tasks = """
  - id: a
    type: script.shell
    inputFiles: {in.txt: x, also.txt: y}
    outputFiles: ["*", also.txt]
    script: echo k=1 > "$HUB_OUTPUT"; echo 1 > one; echo 2 > .two
"""
    _, outputs = await run(hub, tasks)
    assert sorted(outputs["files"]) == ["also.txt", "one"]


async def test_a_name_that_is_no_text_is_left_out(hub: Harness) -> None:
    tasks = """
  - id: a
    type: script.python
    outputFiles: ["*.x"]
    script: |
      open(b"\\xff.x", "w"); open("good.x", "w")
"""
    ended, outputs = await run(hub, tasks)
    assert (ended.state.value, list(outputs["files"])) == ("SUCCESS", ["good.x"])


async def test_more_files_than_the_limit_keep_none(hub: Harness) -> None:
    tasks = """
  - id: a
    type: script.python
    outputFiles: ["*"]
    script: |
      for n in range(1001): open(str(n), "w")
"""
    ended, outputs = await run(hub, tasks)
    assert "more than 1000 files" in str(ended.error)
    assert outputs["files"] == {}


async def test_a_script_that_fails_keeps_its_files_and_its_own_reason(hub: Harness) -> None:
    tasks = "  - {id: a, type: script.shell, script: 'echo why > report; exit 3', outputFiles: [report, x]}"
    ended, outputs = await run(hub, tasks)
    assert ended.error is not None
    assert "exit code 3" in ended.error
    assert await content(hub, outputs["files"]["report"]) == b"why\n"


async def test_a_pattern_that_matches_nothing_is_no_problem(hub: Harness) -> None:
    ended, outputs = await run(hub, "  - {id: a, type: script.shell, script: 'true', outputFiles: ['*.csv']}")
    assert (ended.state.value, outputs["files"]) == ("SUCCESS", {})


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js on PATH")
@pytest.mark.parametrize(
    ("file", "body"),
    [
        ("script.js", "const fs = require('fs');"),
        ("script.mjs", "import fs from 'node:fs'; await Promise.resolve();"),
    ],
)
async def test_node_runs_a_body_that_is_never_rendered(hub: Harness, file: str, body: str) -> None:
    tasks = f"""
  - id: a
    type: script.node
    file: {file}
    env: {{N: "{{{{ inputs.n }}}}"}}
    outputFiles: [out.json]
    script: |
      {body}
      fs.writeFileSync('out.json', `${{process.env.N}} {{% raw %}}{{{{ inputs.n }}}}{{% endraw %}}`);
      fs.writeFileSync(process.env.HUB_OUTPUT, JSON.stringify({{n: process.env.N * 2}}));
"""
    ended, outputs = await run(hub, tasks, {"n": 21}, "inputs: [{id: n, type: INT}]\n")
    assert (ended.state.value, outputs["vars"]) == ("SUCCESS", {"n": 42})
    assert await content(hub, outputs["files"]["out.json"]) == b"21 {{ inputs.n }}"


async def test_a_missing_node_is_named_with_what_to_do(hub: Harness, tmp_path: Path) -> None:
    ended, _ = await run(
        hub,
        f"  - {{id: a, type: script.node, script: '1', env: {{PATH: '{tmp_path}'}}, retry: {{type: constant, interval: PT1H, maxAttempts: 3}}}}",
    )
    assert f"node is not on PATH ({tmp_path}): install Node.js" in str(ended.error)
