"""(b), (c) and (e): what one execution costs by its tasks: in sequence, in a loop, scripts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bench.rows import Options, Row, median
from bench.subjects import folder, hub, python, write_flow

_LOOP = """id: loop
namespace: bench
inputs: [{id: values, type: JSON}]
tasks:
  - id: each
    type: flow.loop
    values: "{{ inputs.values }}"
    concurrencyLimit: 32
    tasks:
      - {id: answer, type: return, value: "{{ item.index }}"}
"""
_SCRIPT = 'x=1\necho "hello $x"\n'


def sequence(options: Options) -> list[Row]:
    """(b) 100 tasks one after another."""
    tasks = "\n".join(
        f'  - {{id: t{n}, type: return, value: "{{{{ inputs.n + {n} }}}}"}}' for n in range(100)
    )
    source = f"id: seq\nnamespace: bench\ninputs: [{{id: n, type: INT, defaults: 1}}]\ntasks:\n{tasks}\n"
    ours, bare = [], []
    with folder() as data:
        write_flow(data, source)
        with hub(data, data / "flows", options.command) as running:
            running.run_flow("seq", {})
            for _ in range(max(options.rounds * 3, 5)):
                bare.append(_bare_sequence(100, 1))
                ours.append(_took(running.run_flow("seq", {})))
    took, limit = median(ours) * 1000, median(bare) * 1000
    return [Row("b", "100 tasks in sequence", took, limit, "ms", took / limit, "<= 2.5", took / limit <= 2.5)]


def _took(execution: dict[str, Any]) -> float:

    began = datetime.fromisoformat(execution["startedAt"])
    return (datetime.fromisoformat(execution["endedAt"]) - began).total_seconds()


def _bare_sequence(count: int, side_by_side: int) -> float:
    with folder() as data:
        return float(python("bench.bare.sequence", str(data / "bare.db"), str(count), str(side_by_side)))


def loops(options: Options) -> list[Row]:
    """(c) loops of 1,000, 10,000 and 100,000 items."""
    rows: list[Row] = []
    per_item: list[float] = []
    for count in (1000, 10000) if options.quick else (1000, 10000, 100000):
        ours, bare, memory = [], [], 0.0
        # a short one is over in the time of a hiccup
        for _ in range(1 if count > 10000 else options.rounds if count > 1000 else options.rounds * 3):
            bare.append(_bare_sequence(count, 32))
            with folder() as data:
                write_flow(data, _LOOP)
                with hub(data, data / "flows", options.command) as running:
                    ours.append(_took(running.run_flow("loop", {"values": list(range(count))})))
                    memory = max(memory, running.memory_mib("VmHWM"))
        rate, limit = count / median(ours), count / median(bare)
        per_item.append(1 / rate)
        rows.append(
            Row(
                "c",
                f"loop items/s, {count:,} items",
                rate,
                limit,
                "/s",
                rate / limit,
                ">= 0.3",
                rate / limit >= 0.3,
            )
        )
        rows.append(
            Row("c", f"largest memory, {count:,} items", memory, None, "MiB", None, "< 300", memory < 300)
        )
    growth = per_item[-1] / per_item[0]
    rows.append(
        Row(
            "c",
            "time per item, largest to smallest loop",
            per_item[-1] * 1e6,
            per_item[0] * 1e6,
            "µs",
            growth,
            "flat",
            growth < 1.5,
        )
    )
    return rows


def scripts(options: Options) -> list[Row]:
    """(e) script.shell at concurrency 1 and 8."""
    rows: list[Row] = []
    body = "\n".join(f"          {line}" for line in _SCRIPT.splitlines())
    count = 100 if options.quick else 300
    for side_by_side in (1, 8):
        source = (
            "id: shell\nnamespace: bench\ninputs: [{id: values, type: JSON}]\ntasks:\n  - id: each\n"
            f'    type: flow.loop\n    values: "{{{{ inputs.values }}}}"\n    concurrencyLimit: {side_by_side}\n'
            f"    tasks:\n      - id: sh\n        type: script.shell\n        script: |\n{body}\n"
        )
        ours, bare = [], []
        with folder() as data:
            write_flow(data, source)
            with hub(data, data / "flows", options.command) as running:
                running.run_flow("shell", {"values": list(range(20))})
                for _ in range(options.rounds):
                    bare.append(float(python("bench.bare.spawn", _SCRIPT, str(count), str(side_by_side))))
                    ours.append(_took(running.run_flow("shell", {"values": list(range(count))})))
        rate, limit = count / median(ours), count / median(bare)
        rows.append(
            Row(
                "e",
                f"scripts/s, {side_by_side} at a time",
                rate,
                limit,
                "/s",
                rate / limit,
                ">= 0.5",
                rate / limit >= 0.5,
            )
        )
    return rows
