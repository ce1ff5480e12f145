"""Moving: every row out of a database file, or into an empty one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.plugin import TABLES, Conflict, PortableLoad, Rows, Schema, StorageError
from plugins_core.sqlite.migrate import migrations

_AT_ONCE = 2_000


def schema_of(path: Path) -> Schema:
    """See ``PortableStorage.schema``."""
    version = 0
    if path.exists():
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{path} cannot be used as a database: {error}") from error
        finally:
            connection.close()
    names = [(number, f"{number:04}") for number, _ in migrations()]
    return Schema(
        tuple(name for number, name in names if number <= version),
        tuple(name for number, name in names if number > version),
    )


@asynccontextmanager
async def dumped(path: Path) -> AsyncIterator[AsyncIterator[Rows]]:
    """See ``PortableStorage.dumped``."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # what is read first fixes the moment for all that follows
        connection.execute("BEGIN")
        yield _rows(connection)
    finally:
        await asyncio.to_thread(connection.close)


async def _rows(connection: sqlite3.Connection) -> AsyncIterator[Rows]:
    for table, columns in TABLES.items():
        order = "seq" if "seq" in columns and table != "execution_labels" else ", ".join(columns[:3])
        cursor = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
        while found := await asyncio.to_thread(cursor.fetchmany, _AT_ONCE):
            yield Rows(table, found)


class Load(PortableLoad):
    """Rows into a file, in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def take(self, rows: Rows) -> None:
        columns = TABLES[rows.table]
        text = f"INSERT INTO {rows.table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        await asyncio.to_thread(self._connection.executemany, text, rows.rows)


@asynccontextmanager
async def loading(path: Path) -> AsyncIterator[Load]:
    """See ``PortableStorage.loading``."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                raise Conflict(f"the storage holds something already: its table {table} is not empty")
        yield Load(connection)
        await asyncio.to_thread(connection.execute, "COMMIT")
    finally:
        await asyncio.to_thread(connection.close)
