"""The one thread that writes: collects what is waiting, commits it at once, answers each item.

Callers hand in a job from the event loop and await its answer; the answer comes after the commit. While a
commit is being flushed the next jobs gather, so the flush is shared. When a shared transaction fails, it is
rolled back and each job is tried alone, so one job's error is only its own.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from hub.plugin import NotYours, StorageError, StorageOverloaded, StorageUnavailable, jsontext

Answer = TypeVar("Answer")

_MOST_PER_COMMIT = 512


class OwnConnection(sqlite3.Connection):
    """A connection of the storage's: plugins run in its process, and one that closes it is told that it may not.

    Whoever gets past that has it closed, and it is opened again.
    """

    def close(self) -> None:
        raise NotYours(
            "this connection to the hub's database is the storage's, and stays open",
            hint="open a connection of its own: sqlite3.connect(…)",
        )

    def let_go(self) -> None:
        """Close it."""
        super().close()


class Job(Generic[Answer]):
    """One write. Jobs of the same ``kind`` that wait together are run together."""

    __slots__ = ("answer", "error", "future", "kind", "work")

    def __init__(self, kind: Kind[Answer], work: Any, future: asyncio.Future[Answer] | None) -> None:
        self.kind = kind
        self.work = work
        self.future = future
        self.answer: Any = None
        self.error: Exception | None = None


@dataclass(slots=True)
class Commit:
    """One transaction under way: its connection, and what it changes that live views show."""

    connection: sqlite3.Connection
    changes: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    """Topic, id, state and flow of each."""


class Kind(Generic[Answer]):
    """How jobs of one kind are run: ``run`` sets every job's ``answer`` or ``error`` and changes nothing for
    a job whose error it sets.

    Jobs of kinds that ``commute`` may pass those of another such kind, so that more of a kind run together;
    every other job takes effect exactly in the order in which it came.
    """

    def __init__(
        self, run: Callable[[Commit, Sequence[Job[Answer]]], None], *, commutes: bool = False
    ) -> None:
        self.run = run
        self.commutes = commutes


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, connect: Callable[[], OwnConnection], *, queue_limit: int) -> None:
        self._connect = connect
        self._limit = queue_limit
        self._jobs: queue.SimpleQueue[list[Job[Any]] | None] = queue.SimpleQueue()
        # jobs of this turn of the loop, handed over together: waking the thread for each would cost both
        # sides more than the commit they share
        self._gathered: list[Job[Any]] = []
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name="sqlite-writer", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed = False

    async def start(self) -> None:
        """Open the connection in the thread. Raises what opening raised."""
        self._thread.start()
        await self._opened

    async def stop(self) -> None:
        """Commit what waits, close the connection and end the thread."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def submit(self, kind: Kind[Answer], work: Any) -> asyncio.Future[Answer]:
        """Queue a write; its future has the answer once it is durable.

        Raises ``StorageOverloaded`` when too much is waiting.
        """
        if self._closed:
            raise StorageUnavailable("the storage is closed")
        if self._waiting >= self._limit:
            raise StorageOverloaded(f"{self._limit} writes are waiting")
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._gather(Job(kind, work, future))
        return future

    def submit_soon(self, kind: Kind[Any], work: Any) -> None:
        """Queue a write nobody waits for."""
        if not self._closed:
            self._gather(Job(kind, work, None))

    def _gather(self, job: Job[Any]) -> None:
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(job)
        self._waiting += 1

    def _hand_over(self) -> None:
        if self._gathered:
            self._jobs.put(self._gathered)
            self._gathered = []

    def _main(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:
            # the name is unbound when this block ends, before the loop calls back
            self._tell(functools.partial(self._opened.set_exception, error))
            return
        self._tell(lambda: self._opened.set_result(None))
        more = True
        while more:
            jobs, more = self._collect()
            if jobs:
                if is_closed(connection):
                    # by code of others in this process; the file itself is as it was
                    connection = self._connect()
                self._commit(connection, jobs)
                self._tell(functools.partial(self._answer, jobs))
        connection.let_go()

    def _collect(self) -> tuple[list[Job[Any]], bool]:
        """Wait for a job and take all that wait with it; False at the end."""
        handed = self._jobs.get()
        jobs: list[Job[Any]] = []
        while True:
            if handed is None:
                return jobs, False
            jobs += handed
            if len(jobs) >= _MOST_PER_COMMIT:
                return jobs, True
            try:
                handed = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True

    def _commit(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
        try:
            self._transaction(connection, jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = _plain(error)
                return
            for job in jobs:
                job.answer = job.error = None
                self._commit(connection, [job])

    def _transaction(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            commit = Commit(connection)
            for kind, same in _in_runs(jobs):
                kind.run(commit, same)
            if commit.changes:
                # one row for all of them: its number says in which order the commits came
                connection.execute(
                    "INSERT INTO changes (at, items) VALUES (?, ?)",
                    (time.time_ns() // 1000, jsontext.dumps(commit.changes)),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _answer(self, jobs: list[Job[Any]]) -> None:
        self._waiting -= len(jobs)
        for job in jobs:
            if job.future is None or job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)

    def _tell(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # the loop is gone: nobody is left to hear the answer
            self._closed = True


def is_closed(connection: sqlite3.Connection) -> bool:
    """Whether somebody has closed a connection."""
    try:
        return connection.total_changes < 0
    except sqlite3.ProgrammingError:
        return True


def _in_runs(jobs: Sequence[Job[Any]]) -> Iterator[tuple[Kind[Any], list[Job[Any]]]]:
    """The jobs in runs of one kind each."""
    gathered: dict[Kind[Any], list[Job[Any]]] = {}
    for job in jobs:
        if job.kind not in gathered and not (job.kind.commutes and all(kind.commutes for kind in gathered)):
            yield from gathered.items()
            gathered = {}
        gathered.setdefault(job.kind, []).append(job)
    yield from gathered.items()


_REFUSED = {
    "executions.event_id": "a trigger starts its flow once for an event",
    "executions.id": "an execution of this id is stored already",
    "events.id": "an event of this id is stored already",
}
"""What a broken unique key means, by its first column."""


def _key_of(error: sqlite3.IntegrityError) -> str:
    """The first column of the unique key that an error names; empty where it names none."""
    return str(error).partition("UNIQUE constraint failed: ")[2].partition(",")[0]


def _plain(error: Exception) -> Exception:
    """The error as the engine knows it: what the disk or file refuses is "away for now".

    What a unique key refuses never will be stored: the hub asked for what this storage holds already.
    """
    if isinstance(error, sqlite3.IntegrityError):
        refused = StorageError(_REFUSED.get(_key_of(error)) or f"this cannot be stored: {error}")
        refused.__cause__ = error
        return refused
    is_misuse = isinstance(error, sqlite3.ProgrammingError) and "closed database" not in str(error)
    if isinstance(error, sqlite3.DatabaseError) and not is_misuse:
        away = StorageUnavailable(f"sqlite: {error}")
        away.__cause__ = error
        return away
    return error
