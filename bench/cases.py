"""The cases: each measures the hub and its bare limit in turn, several times, and gives medians."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.rows import Options, Row
from bench.subjects import Hub, folder, free_port, hub, memory_mib, python, server

_ONE = """id: one
namespace: bench
triggers:
  - {id: hook, type: webhook, key: k}
tasks:
  - {id: answer, type: return, value: "{{ trigger.body.n }}"}
"""
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
_WAITING = """id: waiting
namespace: bench
triggers:
  - {id: hook, type: webhook, key: k, wait: true}
tasks:
  - {id: answer, type: return, value: "{{ trigger.body.n }}"}
outputs: [{id: n, value: "{{ outputs.answer.value }}"}]
"""
_SPAN = timedelta(days=28)
"""Over how long the past executions of (i) are spread."""
_SCRIPT = 'x=1\necho "hello $x"\n'


def _median(values: list[float]) -> float:
    return statistics.median(values)


def webhook(options: Options) -> list[Row]:
    """(a) webhook to durable SUCCESS of a one-task flow at 1 and 32 connections."""
    rows: list[Row] = []
    flushes = [float(_flush_ms()) for _ in range(3)]
    for connections, requests in (
        (32, 4000 if options.quick else 20000),
        (1, 300 if options.quick else 1000),
    ):
        ours: list[dict[str, Any]] = []
        bare: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            bare.append(_bare_load(connections, requests))
            ours.append(_hub_load(options, connections, requests))
        for found in ours:
            if set(found["statuses"]) != {"202"}:
                raise SystemExit(f"answers other than 202: {found['statuses']}")
        rate, limit = _median([f["perSecond"] for f in ours]), _median([f["perSecond"] for f in bare])
        if connections == 32:
            rows.append(
                Row(
                    "a",
                    "executions/s, 32 connections",
                    rate,
                    limit,
                    "/s",
                    rate / limit,
                    ">= 0.40",
                    rate / limit >= 0.4,
                )
            )
            slow, floor = _median([f["p99"] for f in ours]), _median([f["p99"] for f in bare])
            rows.append(
                Row(
                    "a",
                    "answer p99, 32 connections",
                    slow,
                    floor,
                    "ms",
                    slow / floor,
                    "<= 4",
                    slow / floor <= 4,
                )
            )
        else:
            flush = _median(flushes)
            rows.append(Row("a", "executions/s, 1 connection", rate, limit, "/s", rate / limit))
            aim = 4 * flush + 3
            one = _one_by_one(options)
            rows.append(
                Row(
                    "a",
                    "POST to SUCCESS, 1 connection",
                    one,
                    flush,
                    "ms",
                    one / aim,
                    "<= 4 flushes + 3 ms",
                    one <= aim,
                )
            )
    return rows


def _flush_ms() -> float:
    """What one small flush costs here."""
    with folder() as data:
        handle = os.open(data / "flush", os.O_WRONLY | os.O_CREAT)
        times = []
        for _ in range(200):
            os.write(handle, b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - began)
        os.close(handle)
    return _median(times) * 1000


def _bare_load(connections: int, requests: int) -> dict[str, Any]:
    with folder() as data:
        port = str(free_port())
        with server("bench.bare.webhook", str(data / "bare.db"), port):
            python("bench.load", "127.0.0.1", port, "/hook", "/count", "4", "200")
            text = python("bench.load", "127.0.0.1", port, "/hook", "/count", str(connections), str(requests))
            found: dict[str, Any] = json.loads(text)
            return found


def _hub_load(options: Options, connections: int, requests: int) -> dict[str, Any]:
    with folder() as data:
        _write_flow(data, _ONE)
        with hub(data, data / "flows", options.command) as running:
            path = "/api/v1/webhooks/bench/one/k"
            count = "/api/v1/executions?state=SUCCESS&limit=1&count=true"
            port = str(running.port)
            python("bench.load", "127.0.0.1", port, path, count, "4", "200")
            text = python("bench.load", "127.0.0.1", port, path, count, str(connections), str(requests))
            found: dict[str, Any] = json.loads(text)
            return found


def _one_by_one(options: Options) -> float:
    """Milliseconds from POST until a SUCCESS is read back, one at a time on one connection."""
    with folder() as data:
        _write_flow(data, _ONE)
        with hub(data, data / "flows", options.command) as running:
            connection = HTTPConnection("127.0.0.1", running.port)

            def call(method: str, path: str, body: str | None = None) -> Any:
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                return json.loads(connection.getresponse().read())

            times: list[float] = []
            for number in range(110):
                began = time.perf_counter()
                answer = call("POST", "/api/v1/webhooks/bench/one/k", json.dumps({"n": number}))
                while call("GET", f"/api/v1/executions/{answer['executionIds'][0]}")["state"] != "SUCCESS":
                    pass
                times.append((time.perf_counter() - began) * 1000)
            connection.close()
            return _median(times[10:])


def _write_flow(data: Path, source: str) -> None:
    (data / "flows").mkdir(exist_ok=True)
    name = source.split("\n", 1)[0].removeprefix("id: ")
    (data / "flows" / f"{name}.hub.yaml").write_text(source)


def sequence(options: Options) -> list[Row]:
    """(b) 100 tasks one after another."""
    tasks = "\n".join(
        f'  - {{id: t{n}, type: return, value: "{{{{ inputs.n + {n} }}}}"}}' for n in range(100)
    )
    source = f"id: seq\nnamespace: bench\ninputs: [{{id: n, type: INT, defaults: 1}}]\ntasks:\n{tasks}\n"
    ours, bare = [], []
    with folder() as data:
        _write_flow(data, source)
        with hub(data, data / "flows", options.command) as running:
            running.run_flow("seq", {})
            for _ in range(max(options.rounds * 3, 5)):
                bare.append(_bare_sequence(100, 1))
                ours.append(_took(running.run_flow("seq", {})))
    took, limit = _median(ours) * 1000, _median(bare) * 1000
    return [Row("b", "100 tasks in sequence", took, limit, "ms", took / limit, "<= 2.5", took / limit <= 2.5)]


def _took(execution: dict[str, Any]) -> float:
    from datetime import datetime

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
        for _ in range(1 if count > 10000 else options.rounds):
            bare.append(_bare_sequence(count, 32))
            with folder() as data:
                _write_flow(data, _LOOP)
                with hub(data, data / "flows", options.command) as running:
                    ours.append(_took(running.run_flow("loop", {"values": list(range(count))})))
                    memory = max(memory, memory_mib(running.process.pid, "VmHWM"))
        rate, limit = count / _median(ours), count / _median(bare)
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


def start(options: Options) -> list[Row]:
    """(d) process start to first webhook answered, idle memory with 10 and with 10,000 flows."""
    rows: list[Row] = []
    ours, bare, idle, imports = [], [], [], []
    with folder() as data:
        _write_flow(data, _ONE)
        for number in range(9):
            (data / "flows" / f"f{number}.hub.yaml").write_text(_ONE.replace("id: one", f"id: f{number}", 1))
        for _ in range(options.rounds + 2):
            began = time.perf_counter()
            imports.append(float(python("bench.bare.imports")) / 1024)
            bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            with hub(data, data / "flows", options.command) as running:
                running.call("POST", "/api/v1/webhooks/bench/one/k", {"n": 1})
                ours.append(time.perf_counter() - began)
                idle.append(running.memory_mib())
    took, limit = _median(ours) * 1000, _median(bare) * 1000
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
    more = _median(idle) - _median(imports)
    rows.append(
        Row(
            "d",
            "idle memory, 10 flows",
            _median(idle),
            _median(imports),
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
            _write_flow(data, source)
            with hub(data, data / "flows", options.command) as running:
                running.run_flow("shell", {"values": list(range(20))})
                for _ in range(options.rounds):
                    bare.append(float(python("bench.bare.spawn", _SCRIPT, str(count), str(side_by_side))))
                    ours.append(_took(running.run_flow("shell", {"values": list(range(count))})))
        rate, limit = count / _median(ours), count / _median(bare)
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


def files(options: Options) -> list[Row]:
    """(f) files dropped into a folder: each a durable event, a one-task flow run, and put away."""
    count = 1_000 if options.quick else 10_000
    source = (
        "id: one\nnamespace: bench\ntriggers:\n"
        "  - {id: drop, type: file.arrival, path: inbox, after: {move: done}}\n"
        'tasks:\n  - {id: answer, type: return, value: "{{ trigger.size }}"}\n'
    )
    ours, bare = [], []
    for _ in range(options.rounds):
        with folder() as data, server("bench.bare.files", str(data)):
            bare.append(_drop(data, count))
        with folder() as data:
            _write_flow(data, source)
            with hub(data, data / "flows", options.command):
                ours.append(_drop(data, count))
    rate, limit = count / _median(ours), count / _median(bare)
    return [
        Row("f", f"{count:,} files dropped", rate, limit, "/s", rate / limit, ">= 0.25", rate / limit >= 0.25)
    ]


def _drop(data: Path, count: int) -> float:
    """Seconds from the first of many files, renamed into the inbox, until all of them lie in ``done``."""
    (data / "aside").mkdir()
    for number in range(count):
        (data / "aside" / f"{number}.csv").write_text(f"row {number}\n" * 10)
    _first_away(data)
    began = time.perf_counter()
    for number in range(count):
        (data / "aside" / f"{number}.csv").rename(data / "inbox" / f"{number}.csv")
    while len(os.listdir(data / "done")) <= count:
        time.sleep(0.02)
    return time.perf_counter() - began


def _first_away(data: Path) -> None:
    """One file that shows that the folder is watched by now."""
    while not (data / "inbox").is_dir():
        time.sleep(0.01)
    (data / "aside" / "first").write_text("x")
    (data / "aside" / "first").rename(data / "inbox" / "first")
    while not (data / "done" / "first").exists():
        time.sleep(0.01)


def waiting(options: Options) -> list[Row]:
    """(w) a webhook that answers with what its flow made, beside the plain one's POST to SUCCESS."""
    count = 200 if options.quick else 500
    ours, plain = [], []
    for _ in range(options.rounds):
        with folder() as data:
            _write_flow(data, _ONE)
            _write_flow(data, _WAITING)
            with hub(data, data / "flows", options.command) as running:
                one, other = _beside_each_other(running.port, count)
                plain.append(one)
                ours.append(other)
    took, beside = _median(ours), _median(plain)
    more = took - beside
    return [
        Row("w", "POST to the answer with wait, p50", took, beside, "ms", more, "<= 5 ms above", more <= 5)
    ]


def _beside_each_other(port: int, count: int) -> tuple[float, float]:
    """Medians in milliseconds: a plain POST until its SUCCESS is read back, and one that waits."""
    connection = HTTPConnection("127.0.0.1", port)

    def call(method: str, path: str, body: str | None = None) -> Any:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        return json.loads(connection.getresponse().read())

    plain: list[float] = []
    waited: list[float] = []
    for number in range(count + 20):
        body = json.dumps({"n": number})
        began = time.perf_counter()
        answer = call("POST", "/api/v1/webhooks/bench/one/k", body)
        while call("GET", f"/api/v1/executions/{answer['executionIds'][0]}")["state"] != "SUCCESS":
            pass
        between = time.perf_counter()
        if call("POST", "/api/v1/webhooks/bench/waiting/k", body) != {"n": number}:
            raise SystemExit("the waiting webhook did not answer with its flow's outputs")
        plain.append((between - began) * 1000)
        waited.append((time.perf_counter() - between) * 1000)
    connection.close()
    return _median(plain[20:]), _median(waited[20:])


def schedules(options: Options) -> list[Row]:
    """(g) 1,000 schedules of one second: how long after each planned moment its event is durable."""
    count, seconds = (200, 6) if options.quick else (1_000, 20)
    rows: list[Row] = []
    for manner in ("together", "spread"):
        ours, bare = [], []
        for _ in range(options.rounds):
            bare.append(_late(_bare_timers(count, seconds, manner)))
            ours.append(_late(_hub_timers(options, count, seconds, manner)))
        late, limit = _median(ours), _median(bare)
        if manner == "together":
            aim, holds = "<= 4", late / limit <= 4
        else:
            aim, holds = "< 10 ms", late < 10
        what = f"{count:,} schedules {manner}, p99 late"
        rows.append(Row("g", what, late, limit, "ms", late / limit, aim, holds))
    return rows


def _late(found: list[float]) -> float:
    return found[int(len(found) * 0.99)]


def _bare_timers(count: int, seconds: int, manner: str) -> list[float]:
    with folder() as data:
        text = python("bench.bare.timers", str(data / "bare.db"), str(count), str(seconds), manner)
        found: list[float] = json.loads(text)
        return found


def _hub_timers(options: Options, count: int, seconds: int, manner: str) -> list[float]:
    """Milliseconds, sorted: what the storage noted of each commit, and the flush that followed."""
    with folder() as data:
        for number in range(count):
            # the grid of each begins in 1970, so a microsecond more is another moment of the second by now
            interval = f"PT1.{number:06}S" if manner == "spread" else "PT1S"
            _write_flow(
                data,
                f"id: f{number}\nnamespace: bench\ntriggers:\n"
                f"  - {{id: tick, type: schedule.every, interval: {interval}}}\n"
                "tasks:\n  - {id: answer, type: return, value: 1}\n",
            )
        with hub(data, data / "flows", options.command):
            _until_steady(data, count)
            begins = int(time.time()) + 1
            time.sleep(begins + seconds - time.time())
        database = sqlite3.connect(data / "hub.db")
        commits = database.execute("SELECT at, items FROM changes ORDER BY number").fetchall()
        planned = dict(
            database.execute(
                "SELECT id, time FROM events WHERE time >= ?1 * 1000000 AND time < (?1 + ?2) * 1000000 - 500000",
                (begins, seconds),
            )
        )
        database.close()
    flush = _flush_ms()
    found = sorted(
        (at - planned[id]) / 1000 + flush
        for at, items in commits
        for topic, id, *_ in json.loads(items)
        if topic == "event" and id in planned
    )
    if len(found) < count * (seconds - 1):
        raise SystemExit(f"only {len(found)} of {count * seconds} schedules fired in time")
    return found


def _until_steady(data: Path, count: int) -> None:
    """Wait until every schedule of a second has fired before the next second: the start is another case."""
    reading = sqlite3.connect(f"file:{data / 'hub.db'}?mode=ro", uri=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        second = int(time.time())
        time.sleep(second + 1 - time.time())
        fired = reading.execute(
            "SELECT count(*) FROM events WHERE time >= ?1 AND time < ?1 + 1000000",
            ((second - 1) * 1_000_000,),
        )
        if fired.fetchone()[0] >= count * 0.99:
            break
    else:
        raise SystemExit("the hub does not keep up with its schedules")
    reading.close()


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
            _write_flow(data, _ONE)
            with hub(data, data / "flows", options.command) as served:
                paths = (
                    "/api/v1/webhooks/bench/one/k",
                    "/api/v1/executions?state=SUCCESS&limit=1&count=true",
                    "/api/v1/stream",
                )
                ours.append(_read_all(served.process.pid, served.port, paths, readers, requests))
    rate, limit = _median([f["perSecond"] for f in ours]), _median([f["perSecond"] for f in bare])
    more, least = _median([f["memory"] for f in ours]), _median([f["memory"] for f in bare])
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


def kafka(options: Options) -> list[Row]:
    """(k) a topic of 1 KB records: one execution each, batches of 500, append to SUCCESS, memory while a million wait."""
    from bench.kafka import measure  # needs a broker: nobody else pays for it

    count = 4000 if options.quick else 20000
    rate = _median([_hub_load(options, 32, count)["perSecond"] for _ in range(options.rounds)])
    return measure(options, rate)


CASES: dict[str, Callable[[Options], list[Row]]] = {
    "a": webhook,
    "b": sequence,
    "c": loops,
    "d": start,
    "e": scripts,
    "f": files,
    "w": waiting,
    "g": schedules,
    "h": streams,
    "i": lists,
    "k": kafka,
}
