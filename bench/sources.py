"""(f) and (g): files that are dropped and schedules that come due."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

from bench.rows import Options, Row, median
from bench.subjects import flush_ms, folder, hub, python, server, write_flow


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
            write_flow(data, source)
            with hub(data, data / "flows", options.command):
                ours.append(_drop(data, count))
    rate, limit = count / median(ours), count / median(bare)
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


def schedules(options: Options) -> list[Row]:
    """(g) 1,000 schedules of one second: how long after each planned moment its event is durable."""
    count, seconds = (200, 6) if options.quick else (1_000, 20)
    rows: list[Row] = []
    for manner in ("together", "spread"):
        ours, bare = [], []
        for _ in range(options.rounds):
            bare.append(_late(_bare_timers(count, seconds, manner)))
            ours.append(_late(_hub_timers(options, count, seconds, manner)))
        late, limit = median(ours), median(bare)
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
            write_flow(
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
    flush = flush_ms()
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
