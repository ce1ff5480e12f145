"""This hub as one of several: its row, its heartbeat, and the database's time.

A lease belongs to an incarnation. The heartbeat has a thread and a connection of its own, so that a busy loop
loses no lease; whether one has run out is for the database's clock alone to say. One that others have ended
becomes a new incarnation, and what it held is its no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from hub.plugin import StorageError, from_micros, new_id
from plugins_core.postgres.claiming import release_all_of
from plugins_core.postgres.commits import NOW

log = structlog.get_logger("hub.postgres")

_IDENTITY_FILE = "hub.node"
_BACKOFF = 0.5
_STEADY = 3
"""So many heartbeats in a row a hub has to have made itself before it ends another."""
_DRIFT = 0.005
"""Seconds that the machine's clock may have drifted from the database's before it is put right."""
_FIRST_READINGS = 5
_NARROW = 0.002
"""A reading that took no more seconds than this is as good as any."""


class DatabaseClock:
    """The database's time, carried by the machine's monotonic clock: a jump of the wall clock moves nothing.

    What one hub leaves for another is due by both their clocks, so they must not differ by more than it takes to claim.
    """

    def __init__(self) -> None:
        self._at = (0, 0)

    def set(self, micros: int, before_ns: int, after_ns: int) -> None:
        """The database's clock showed ``micros`` between two moments of the monotonic one."""
        middle = (before_ns + after_ns) // 2
        # what the round trip leaves open is no drift
        doubt = (after_ns - before_ns) / 2e3 + _DRIFT * 1e6
        if self._at == (0, 0) or abs(micros - self._micros(middle)) > doubt:
            self._at = (micros, middle)

    def now(self) -> datetime:
        return from_micros(self._micros(time.monotonic_ns()))

    def _micros(self, monotonic_ns: int) -> int:
        micros, then = self._at
        return micros + (monotonic_ns - then) // 1000


class Membership:
    """This hub's row in ``nodes``."""

    def __init__(self, driver: Any, data_dir: Path, version: str) -> None:
        self._driver = driver
        self._identity = _identity(data_dir)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._version = version
        self._number = 0
        self._renewing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.clock = DatabaseClock()
        self.on_lost: Callable[[], None] = lambda: None
        """Called when this incarnation was ended by another node: all that it held is lost."""
        self.on_drain: Callable[[], None] = lambda: None
        """Called once when somebody has asked this node to take nothing new."""
        self._is_draining = False
        # since when its heartbeats have come without a gap; None while they do not
        self._steady_since: float | None = None
        self._beaten_at = 0.0
        self.probe: str | None = None
        """A file that it put into its file store."""

    @property
    def number(self) -> int:
        return self._number

    @property
    def may_judge(self) -> bool:
        """Whether it has been heard of itself for long enough to say that others were not.

        After a server was away, or a line was cut, all hubs come back, one of them first; the others get the time.
        """
        since = self._steady_since
        return since is not None and time.monotonic() - since >= _STEADY * self._every

    # incarnations

    async def join(self, connection: Any) -> int:
        """Become a node; answers how many executions earlier incarnations of this hub had left.

        They have ended: the data folder is locked by this process.
        """
        await self._read_clock(connection, _FIRST_READINGS)
        earlier = await connection.fetch(
            "SELECT number FROM nodes WHERE identity = $1 AND ended_at IS NULL ORDER BY number",
            self._identity,
        )
        self._number = await self._insert(connection)
        return sum([await end_node(connection, row[0]) or 0 for row in earlier])

    async def renew(self, ended: int) -> None:
        """Become another incarnation, once ``ended`` has been ended."""
        async with self._renewing:
            if self._number != ended:
                return
            from plugins_core.postgres.driver import connected

            async with connected(self._driver, "joins") as connection:
                self._number = await self._insert(connection)
            log.warning(
                "this node was silent for longer than its lease; it goes on as another", node=self._number
            )
            self.on_lost()

    async def start_anew(self, connection: Any, at: int) -> int:
        """End this incarnation and begin another; answers how many executions it had left, ready from ``at``."""
        async with self._renewing:
            ended, self._number = self._number, await self._insert(connection)
        return await end_node(connection, ended, ready_at=at) or 0

    async def leave(self, connection: Any) -> None:
        """Be no node any more; what is still held is given back."""
        await end_node(connection, self._number)

    async def _insert(self, connection: Any) -> int:
        return int(
            await connection.fetchval(
                "INSERT INTO nodes (identity, name, version, started_at, heartbeat_at, lease_expires_at, probe)"
                f" VALUES ($1, $2, $3, {NOW}, {NOW}, {NOW} + $4, $5) RETURNING number",
                self._identity,
                self.name,
                self._version,
                self._lease,
                self.probe,
            )
        )

    @property
    def _lease(self) -> int:
        return int(self._driver.settings.lease.total_seconds() * 1e6)

    # heartbeat

    def start(self) -> None:
        """Begin to beat."""
        self._thread = threading.Thread(target=self._beat_for_ever, name="postgres-heartbeat", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _beat_for_ever(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever would be told
            asyncio.run(self._beats())

    async def _beats(self) -> None:
        from plugins_core.postgres.driver import Failure, close

        connection: Any = None
        every = self._every
        while not self._stop.is_set():
            rest = every
            try:
                if connection is None or connection.is_closed():
                    connection = await self._driver.connect("heartbeat")
                async with asyncio.timeout(max(every, 1.0) * 2):
                    await self._beat(connection)
            except Failure as error:
                log.warning("heartbeat could not be stored; trying again", error=str(error))
                if connection is not None:
                    connection.terminate()
                connection, rest = None, min(_BACKOFF, every)
                self._steady_since = None
            await asyncio.to_thread(self._stop.wait, rest)
        if connection is not None:
            await close(connection)

    async def _beat(self, connection: Any) -> None:
        number = self._number
        row = await connection.fetchrow(
            f"UPDATE nodes SET heartbeat_at = {NOW}, lease_expires_at = {NOW} + $2"
            " WHERE number = $1 AND ended_at IS NULL RETURNING drain_requested_at",
            number,
            self._lease,
        )
        await self._read_clock(connection)
        self._note_beat()
        if row is None:
            if number == self._number:
                asyncio.run_coroutine_threadsafe(self.renew(number), self._loop)
        elif row[0] is not None and not self._is_draining:
            self._is_draining = True
            self._loop.call_soon_threadsafe(self.on_drain)

    def _note_beat(self) -> None:
        now = time.monotonic()
        # a process that was frozen heard nothing of the others either
        if self._steady_since is None or now - self._beaten_at > _STEADY * self._every:
            self._steady_since = now
        self._beaten_at = now

    @property
    def _every(self) -> float:
        return float(self._driver.settings.heartbeat.total_seconds())

    async def _read_clock(self, connection: Any, readings: int = 1) -> None:
        """Set the clock by the narrowest of some readings."""
        found: list[tuple[int, int, int, int]] = []
        for _ in range(readings):
            before = time.monotonic_ns()
            micros = await connection.fetchval(f"SELECT {NOW}")
            after = time.monotonic_ns()
            found.append((after - before, micros, before, after))
            if after - before <= _NARROW * 1e9:
                break
        _, micros, before, after = min(found)
        self.clock.set(micros, before, after)


async def end_node(
    connection: Any, number: int, *, only_silent: bool = False, ready_at: int | None = None
) -> int | None:
    """End an incarnation and release what it holds, ready at once; answers how many executions that were.

    None where it had been ended already, or, with ``only_silent``, its lease has not run out.
    """
    async with connection.transaction():
        # alone: whatever it is just committing comes first, and nothing of it afterwards
        await connection.execute("SELECT pg_advisory_xact_lock($1::bigint)", number)
        silent = f"AND lease_expires_at < {NOW}" if only_silent else ""
        ended = await connection.fetchval(
            f"UPDATE nodes SET ended_at = {NOW} WHERE number = $1 AND ended_at IS NULL {silent} RETURNING ended_at",
            number,
        )
        return None if ended is None else await release_all_of(connection, number, ready_at or ended)


def _identity(data_dir: Path) -> str:
    """What this installation is called over restarts; a copy of its folder on another machine is another one."""
    path = data_dir / _IDENTITY_FILE
    try:
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(new_id())
        return f"{path.read_text('utf-8').strip()}@{socket.gethostname()}"
    except OSError as error:
        raise StorageError(f"{path} cannot be used: {error.strerror}") from error
