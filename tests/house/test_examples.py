"""The examples of the reference do what they say: each task's is run, in a hub whose surroundings are there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from hub.registry import load_plugins
from hub.testing import HttpReceiver, VirtualClock, harness

REGISTRY = load_plugins({})
EXAMPLES = {
    f"{name}-{number}": example
    for name, task in sorted(REGISTRY.tasks.items())
    # those of Kafka need a broker: tests/kafka runs them
    if task.__module__.startswith("plugins_core.") and not name.startswith("kafka.")
    for number, example in enumerate(task.examples)
}
HEAD = (
    "id: x\nnamespace: y\n"
    "inputs: [{id: day, type: DATE, required: false}, {id: name, type: STRING, required: false}]\n"
    "triggers: [{id: given, type: webhook, key: given}]\n"
)
SUBFLOW = (
    "id: orders\nnamespace: shop.intake\ninputs: [{id: day, type: DATE}]\n"
    "tasks: [{id: a, type: log, message: x}]\n"
)
FILES = {
    "inbox/orders.csv": "id,total\n1,10\n",
    "prices.csv": "a;1\nb;2\n",
    "reports/a.csv": "1\n",
    "out/a.csv": "1\n",
    "archive/.keep": "",
    "photos/.keep": "",
    "templates/mail.txt": "hello",
}
ENDS = {"execution.fail-0": "FAILED"}
"""How an example ends, where it is no success."""
EXTERNAL = {"script.node": "node", "script.run-1": "perl"}
"""The programs that an example needs and no package brings."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name in EXTERNAL and shutil.which(EXTERNAL[name]) is None,
                reason=f"needs {EXTERNAL.get(name)} on this machine",
            ),
        )
        for name in sorted(EXAMPLES)
    ],
)
async def test_a_tasks_example_runs(tmp_path: Path, http_receiver: HttpReceiver, name: str) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    example = EXAMPLES[name].strip("\n").replace("https://example.test", http_receiver.url)
    source = f"{HEAD}tasks:\n{indent(example, '    ').replace('    ', '  - ', 1)}\n"
    clock = VirtualClock()
    async with harness(tmp_path, clock=clock, with_triggers=False) as hub:
        photo = await hub.node.services.payloads.store.put("x", "photo.jpg", b"a photo")
        body: dict[str, Any] = {"total": -1, "id": 1, "items": [1, 2], "photo": {"uri": photo}}
        await hub.put(SUBFLOW)
        await hub.put(source)
        given = {"name": "Ada", "day": "2026-01-02"}
        started = await hub.start("y/x", given, trigger="given", data={"body": body})
        with clock.hurrying():
            async with asyncio.timeout(30):
                ended = await hub.ended(started.id)
    assert ended.state.value == ENDS.get(name, "SUCCESS"), ended.error
