"""Following an execution: what happened comes in the order it happened."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hub.engine.follow import Step, follow
from hub.testing import Harness

_GROUPS = """id: groups
namespace: f
tasks:
  - id: first
    type: script.shell
    script: echo one
  - id: both
    type: flow.parallel
    tasks:
      - {id: left, type: log, message: two}
      - {id: right, type: log, message: three}
  - {id: last, type: log, message: four}
"""


def said(step: Step) -> str:
    if step.log is not None:
        return step.log.message
    if step.task_run is not None:
        return f"{step.task_run.path} {step.task_run.state.value}"
    assert step.execution is not None
    return step.execution.state.value


async def test_lines_and_ends_of_a_past_execution_are_told_in_their_order(hub: Harness) -> None:
    await hub.put(_GROUPS)
    ended = await hub.run("f/groups")
    told = [said(step) async for step in follow(hub.node.services, ended.id)]
    assert told[0] == "one"
    assert told[-3:] == ["four", "last SUCCESS", "SUCCESS"]
    assert told.index("one") < told.index("first SUCCESS") < told.index("both/left SUCCESS")
    assert told.index("two") < told.index("both/left SUCCESS") < told.index("both SUCCESS")
    assert told.index("three") < told.index("both/right SUCCESS") < told.index("both SUCCESS")
    assert told.index("both SUCCESS") < told.index("four")


async def test_running_is_never_told_after_an_end_that_came_later(hub: Harness, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    await hub.put(
        "id: two\nnamespace: f\ntasks:\n  - {id: first, type: log, message: x}\n"
        f"  - {{id: second, type: script.shell, script: 'read x < {pipe}'}}\n"
    )
    with hub.node.services.bus.subscribe("taskRun") as news:
        started = await hub.start("f/two")
        while (await news.next()).details.get("path") != "first":
            pass
    told: list[str] = []
    async for step in follow(hub.node.services, started.id):
        told.append(said(step))
        if told[-1] == "first SUCCESS":
            await asyncio.to_thread(pipe.write_text, "go\n")
    assert told.index("RUNNING") < told.index("first SUCCESS")
    assert told[-1] == "SUCCESS"
