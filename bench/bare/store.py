"""The least that writes the same rows durably: one thread, one SQLite file, one flush for all that wait."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

SCHEMA = """
CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT, type TEXT, time INTEGER,
  subject TEXT, namespace TEXT, flow TEXT, trigger TEXT, depth INTEGER, received_at INTEGER, data TEXT, verdicts TEXT);
CREATE INDEX events_by_flow ON events (namespace, flow);
CREATE TABLE executions (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, namespace TEXT, flow TEXT, revision INTEGER,
  state TEXT, trigger TEXT, event_id TEXT, inputs TEXT, labels TEXT, outputs TEXT, created_at INTEGER,
  started_at INTEGER, ended_at INTEGER, claimed INTEGER, fence INTEGER);
CREATE UNIQUE INDEX executions_by_event ON executions (event_id, namespace, flow, trigger);
CREATE INDEX executions_live ON executions (state) WHERE ended_at IS NULL;
CREATE INDEX executions_by_time ON executions (created_at);
CREATE INDEX executions_by_namespace ON executions (namespace, seq, created_at);
CREATE INDEX executions_by_flow ON executions (namespace, flow, seq, created_at);
CREATE INDEX executions_by_flow_id ON executions (flow, seq, created_at);
CREATE INDEX executions_past ON executions (state, seq, created_at) WHERE ended_at IS NOT NULL;
CREATE INDEX executions_past_by_namespace ON executions (namespace, state, seq, created_at) WHERE ended_at IS NOT NULL;
CREATE TABLE task_runs (seq INTEGER PRIMARY KEY, execution_id TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL,
  task TEXT, type TEXT, state TEXT, attempts INTEGER, outputs TEXT, started_at INTEGER, ended_at INTEGER,
  UNIQUE (execution_id, scope, name));
CREATE INDEX task_runs_live ON task_runs (execution_id) WHERE ended_at IS NULL;
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, items TEXT);
"""
Change = tuple[str, str, str | None]
Write = Callable[[sqlite3.Connection], list[Change] | None]
"""Writes its rows and answers what live views will show: what, its id and its state."""


class Store:
    """``await store.write(function)`` returns once what the function wrote is flushed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[tuple[Write, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def write(self, work: Write) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((work, future))
        return future

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _main(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(SCHEMA)
        while True:
            jobs: list[Any] = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            connection.execute("BEGIN IMMEDIATE")
            changes: list[Change] = []
            for job in jobs:
                if job is not None:
                    changes += job[0](connection) or ()
            if changes:
                connection.execute("INSERT INTO changes (at, items) VALUES (?, ?)",
                                   (time.time_ns() // 1000, orjson.dumps(changes).decode()))  # fmt: skip
            connection.execute("COMMIT")
            done = [job[1] for job in jobs if job is not None]
            self._loop.call_soon_threadsafe(lambda done=done: [one.set_result(None) for one in done])
            if None in jobs:
                connection.close()
                return
