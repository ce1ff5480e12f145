"""What the engine adds to a call of a plugin's class, in microseconds; ``python -m bench.plugin_layer COUNT`` prints it.

Measured inside of a real execution: a task calls the engine's own attempt for the task beside it, which renders the
fields, checks them, makes the component and its context, runs it where it can be stopped, and takes its outputs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, cast

import uvloop
from pydantic import Field

from hub.engine.attempt import attempt
from hub.engine.task_context import RunningTask
from hub.engine.task_runner import LiveRun
from hub.plugin import Task, TaskContext
from hub.registry import Registry, load_plugins
from hub.testing import harness

_FLOW = """id: layer
namespace: bench
inputs: [{id: name, type: STRING}, {id: count, type: INT}]
tasks:
  - {id: meter, type: bench.meter, count: "{{ inputs.count }}"}
  - {id: echo, type: bench.echo, text: "{{ inputs.name }}", number: 3}
outputs: [{id: micros, value: "{{ outputs.meter.micros }}"}]
"""


class Echo(Task):
    """Give back what it got."""

    type: ClassVar[str] = "bench.echo"

    text: str = Field(description="A text.")
    number: int = Field(description="A number.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        return {"text": self.text, "number": self.number}


class Meter(Task):
    """Measure the attempts of the task beside it."""

    type: ClassVar[str] = "bench.meter"

    count: int = Field(description="How many.")

    async def run(self, ctx: TaskContext) -> dict[str, float]:
        running = cast(RunningTask, ctx)
        executor, scope = running._executor, running._scope
        live = LiveRun(executor, executor.flow.tasks["echo"], "echo", None)
        for _ in range(200):
            await attempt(live, scope)
        began = time.thread_time()
        for _ in range(self.count):
            await attempt(live, scope)
        return {"micros": (time.thread_time() - began) / self.count * 1e6}


async def main(count: int) -> None:
    """Run the flow and print what it measured."""
    registry = load_plugins({})
    tasks: dict[str, type[Task]] = {**registry.tasks, Echo.type: Echo, Meter.type: Meter}
    with tempfile.TemporaryDirectory() as folder:
        ours = Registry(tasks=tasks, storages=registry.storages, file_stores=registry.file_stores)
        async with harness(Path(folder), registry=ours) as hub:
            await hub.put(_FLOW)
            ended = await hub.run("bench/layer", {"name": "Ada", "count": count})
            if ended.outputs is None:
                raise SystemExit(ended.error or "it has no outputs")
            print(ended.outputs["micros"])


if sys.platform == "linux":
    uvloop.run(main(int(sys.argv[1])))
else:
    asyncio.run(main(int(sys.argv[1])))
