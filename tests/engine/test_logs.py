"""An execution's log: capped as a whole, however often the execution waits, and in the order it was written."""

from __future__ import annotations

from typing import Any

import pytest

from hub.engine import logs
from hub.testing import Harness

SOURCE = """id: f
namespace: t
inputs: [{id: lines, type: JSON}]
tasks:
  - {id: a, type: log, message: "{{ inputs.lines }}"}
  - {id: s, type: flow.sleep, duration: 20ms}
  - {id: b, type: log, message: "{{ inputs.lines }}"}
  - {id: t, type: flow.sleep, duration: 20ms}
  - {id: c, type: log, message: "{{ inputs.lines }}"}
"""


@pytest.mark.parametrize(("name", "most", "count"), [("_MOST_LINES", 25, 26), ("_MOST_CHARACTERS", 1500, 31)])
async def test_the_log_of_an_execution_that_waits_is_capped_once(
    hub: Harness, monkeypatch: pytest.MonkeyPatch, name: str, most: int, count: int
) -> None:
    monkeypatch.setattr(logs, name, most)
    await hub.put(SOURCE)
    # in the second walk it gets full, in the third it is
    ended = await hub.run("t/f", {"lines": ["x" * 50 for _ in range(20)]})
    found = [line.message for line in await hub.logs(ended.id)]
    assert found.count(logs._FULL) == 1
    assert found[-1] == logs._FULL
    assert len(found) == count


async def test_lines_come_in_order_however_they_are_stored(hub: Harness) -> None:
    await hub.put("""id: f
namespace: t
inputs: [{id: lines, type: JSON}]
tasks:
  - {id: a, type: log, message: "{{ inputs.lines }}"}
  - {id: s, type: flow.sleep, duration: 1ms}
  - {id: b, type: log, message: "{{ inputs.lines }}"}
""")
    lines: list[Any] = [f"line {n}" for n in range(1300)]
    ended = await hub.run("t/f", {"lines": lines})
    found: list[str] = []
    while more := await hub.node.services.storage.logs(ended.id, after=len(found)):
        found += [line.message for line in more]
    assert found == lines * 2
