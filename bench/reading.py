"""(h) and (i): live streams with many readers, and lists over a long past."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

from bench.rows import Options, Row, median
from bench.subjects import ONE, Hub, folder, free_port, hub, memory_mib, python, server, write_flow

_SPAN = timedelta(days=28)
"""Over how long the past executions of (i) are spread."""


def streams(options: Options) -> list[Row]:
    """(h) 200 readers of the live stream while webhooks come in as fast as they are taken."""
    readers, requests = 200, 500 if options.quick else 3_000
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in range(options.rounds):
        with folder() as data:
            port = free_port()
            with server("bench.bare.stream", str(data / "bare.db"), str(port)) as running:
                bare.append(_read_all(running.pid, port, ("/hook", "/count", "/stream"), readers, requests))
        with folder() as data:
            write_flow(data, ONE)
            with hub(data, data / "flows", options.command) as served:
                paths = (
                    "/api/v1/webhooks/bench/one/k",
                    "/api/v1/executions?state=SUCCESS&limit=1&count=true",
                    "/api/v1/stream",
                )
                ours.append(_read_all(served.process.pid, served.port, paths, readers, requests))
    rate, limit = median([f["perSecond"] for f in ours]), median([f["perSecond"] for f in bare])
    more, least = median([f["memory"] for f in ours]), median([f["memory"] for f in bare])
    return [
        Row("h", f"events/s to {readers} readers", rate, limit, "/s", rate / limit, ">= 0.5", rate / limit >= 0.5),
        Row("h", f"memory that {readers} readers take", more, least, "MiB", more - least, "<= 50 MiB above", more - least <= 50),
    ]  # fmt: skip


def _read_all(
    pid: int, port: int, paths: tuple[str, str, str], readers: int, requests: int
) -> dict[str, float]:
    """What the readers say, and how much more memory the server held at most than before them."""
    hook, count, stream = paths
    python("bench.load", "127.0.0.1", str(port), hook, count, "8", "200")
    before = memory_mib(pid)
    arguments = ["127.0.0.1", str(port), stream, str(readers), str(requests)]
    with server("bench.readers", *arguments) as reading:
        python("bench.load", "127.0.0.1", str(port), hook, count, "8", str(requests))
        assert reading.stdout is not None
        found: dict[str, float] = json.loads(reading.stdout.readline())
    return {**found, "memory": memory_mib(pid, "VmHWM") - before}


def lists(options: Options) -> list[Row]:
    """(i) the list of executions over a million past ones: each filter, deep pages, counts."""
    count = 100_000 if options.quick else 1_000_000
    with folder() as data:
        python("bench.past", str(data), str(count))
        with hub(data, None, options.command) as running:
            times = ask_lists(running, count, 10 * options.rounds)
    return list_rows("i", times)


def ask_lists(running: Hub, count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every kind of question, asked again and again."""
    times: dict[str, list[float]] = {}
    queries = _list_queries(running, count)
    for _ in range(rounds):
        for what, path in queries:
            began = time.perf_counter()
            running.call("GET", path)
            times.setdefault(what, []).append((time.perf_counter() - began) * 1000)
    return times


def list_rows(case: str, times: dict[str, list[float]]) -> list[Row]:
    rows: list[Row] = []
    for what, found in times.items():
        slow = sorted(found)[int(len(found) * 0.95)]
        rows.append(Row(case, f"{what}, p95", slow, None, "ms", None, "< 300 ms", slow < 300))
    return rows


def _list_queries(running: Hub, count: int) -> list[tuple[str, str]]:
    """What a list may be asked, by the kind of the question; among them what few or none fit, far in the past."""
    oldest, newest = (
        datetime.now(UTC) - _SPAN + timedelta(hours=1),
        datetime.now(UTC) - timedelta(hours=1),
    )
    middle = (datetime.now(UTC) - _SPAN / 2).isoformat().replace("+00:00", "Z")
    moments = [one.isoformat().replace("+00:00", "Z") for one in (oldest, newest)]
    asked = [
        ("nothing asked", ""),
        *[("namespace", f"namespace={one}") for one in ("busy", "n4", "rare", "none")],
        *[("flow", f"flow={one}") for one in ("f3", "once", "none")],
        *[("namespace and flow", f"namespace={one}") for one in ("busy&flow=f3", "rare&flow=once", "busy&flow=f4")],
        *[("state", f"state={one}") for one in ("SUCCESS", "FAILED", "KILLED", "WARNING", "FAILED,KILLED", "RUNNING")],
        *[("namespace and state", f"namespace={one}") for one in ("busy&state=FAILED", "n4&state=KILLED", "busy&flow=f3&state=FAILED")],
        *[("label", f"label={one}") for one in ("team=t3", "order=1001", f"order={count - 1}", "none=1", "team=t3&label=order=31")],
        *[("label and more", f"namespace=n4&label={one}") for one in ("team=t3", "order=1001&state=SUCCESS")],
        *[("since, until", one) for one in (f"until={moments[0]}", f"since={moments[1]}", f"since={moments[0]}&until={middle}")],
        *[("since, until and more", f"until={middle}&{one}") for one in ("namespace=busy", "state=FAILED", "label=team=t3", "namespace=busy&state=FAILED")],
    ]  # fmt: skip
    queries = [(what, f"/api/v1/executions?limit=50&{query}") for what, query in asked]
    queries += [("count=true", f"{path}&count=true") for _, path in queries]
    for _, path in queries[: len(asked)]:
        cursor = deep_cursor(running, path)
        if cursor is not None:
            queries.append(("deep cursor", f"{path}&cursor={cursor}"))
    return queries


def deep_cursor(running: Hub, path: str) -> str | None:
    """The cursor after a few thousand items, where there are as many."""
    cursor = None
    for _ in range(5):
        page = running.call(
            "GET", path.replace("limit=50", "limit=1000") + (f"&cursor={cursor}" if cursor else "")
        )
        cursor = page["nextCursor"]
        if cursor is None:
            return None
    return cursor
