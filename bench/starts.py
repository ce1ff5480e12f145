"""(d): start, idle memory, and ten thousand flows."""

from __future__ import annotations

import time

from bench.rows import Options, Row, median
from bench.subjects import ONE, folder, hub, python, write_flow


def start(options: Options) -> list[Row]:
    """(d) process start to first webhook answered, idle memory with 10 and with 10,000 flows."""
    rows: list[Row] = []
    ours, bare, idle, imports = [], [], [], []
    with folder() as data:
        write_flow(data, ONE)
        for number in range(9):
            (data / "flows" / f"f{number}.hub.yaml").write_text(ONE.replace("id: one", f"id: f{number}", 1))
        for _ in range(options.rounds + 2):
            began = time.perf_counter()
            imports.append(float(python("bench.bare.imports")) / 1024)
            bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            with hub(data, data / "flows", options.command) as running:
                running.call("POST", "/api/v1/webhooks/bench/one/k", {"n": 1})
                ours.append(time.perf_counter() - began)
                idle.append(running.memory_mib())
    took, limit = median(ours) * 1000, median(bare) * 1000
    rows.append(
        Row(
            "d",
            "start to first webhook answered",
            took,
            limit,
            "ms",
            took / limit,
            "<= 2.5",
            took / limit <= 2.5,
        )
    )
    more = median(idle) - median(imports)
    rows.append(
        Row(
            "d",
            "idle memory, 10 flows",
            median(idle),
            median(imports),
            "MiB",
            more,
            "<= 25 MiB above",
            more <= 25,
        )
    )
    if not options.quick:
        rows += _many_flows(options)
    return rows


def _many_flows(options: Options) -> list[Row]:
    with folder() as data:
        (data / "flows").mkdir()
        for number in range(10_000):
            tasks = "\n".join(
                f'  - id: t{n}\n    type: log\n    message: "{number} {{{{ inputs.name }}}} and {{{{ inputs.name | upper }}}}"'
                for n in range(31)
            )
            (data / "flows" / f"f{number}.hub.yaml").write_text(
                f"id: f{number}\nnamespace: bench\ninputs: [{{id: name, type: STRING, defaults: x}}]\n"
                f"triggers:\n  - {{id: hook, type: webhook, key: k}}\ntasks:\n{tasks}\n"
            )
        with hub(data, data / "flows", options.command) as running:
            first = running.ready_seconds
        with hub(data, data / "flows", options.command) as running:
            again, memory = running.ready_seconds, running.memory_mib()
    return [
        Row("d", "first load of 10,000 flows", first, None, "s", None, "< 60", first < 60),
        Row("d", "ready with 10,000 known flows", again, None, "s", None, "< 5", again < 5),
        Row("d", "idle memory, 10,000 flows", memory, None, "MiB", None, "< 300", memory < 300),
    ]
