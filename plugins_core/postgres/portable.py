"""Moving: every row out of a database as of one moment, or into an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hub.plugin import TABLES, Conflict, PortableLoad, Rows, Schema
from plugins_core.postgres.address import Address
from plugins_core.postgres.commits import NOW
from plugins_core.postgres.migrate import migrations, pending
from plugins_core.postgres.rows import clean

_AT_ONCE = 2_000
_NUMBERED = ("events", "executions", "task_runs", "logs", "notices")


async def schema_of(connection: Any, address: Address) -> Schema:
    """See ``PortableStorage.schema``."""
    left = [one.name for one in await pending(connection, address)]
    return Schema(tuple(one.name for one in migrations() if one.name not in left), tuple(left))


@asynccontextmanager
async def dumped(connection: Any) -> AsyncIterator[AsyncIterator[Rows]]:
    """See ``PortableStorage.dumped``."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # where the rows go to may be slow
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute("SET LOCAL statement_timeout = 0")
        yield _rows(connection)


async def _rows(connection: Any) -> AsyncIterator[Rows]:
    for table, columns in TABLES.items():
        order = "seq" if "seq" in columns and table != "execution_labels" else ", ".join(columns[:3])
        where = " WHERE version > 0" if table == "trigger_states" else ""
        text = f"SELECT {', '.join(columns)} FROM {table}{where} ORDER BY {order}"
        cursor = await connection.cursor(text)
        while found := await cursor.fetch(_AT_ONCE):
            yield Rows(table, [tuple(row) for row in found])


class Load(PortableLoad):
    """Rows into a database, in one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def take(self, rows: Rows) -> None:
        cleaned = [[clean(cell) if isinstance(cell, str) else cell for cell in row] for row in rows.rows]
        await self._connection.copy_records_to_table(
            rows.table, records=cleaned, columns=list(TABLES[rows.table])
        )

    async def finish(self) -> None:
        """Let numbers go on where they left off, and whatever was claimed be claimed anew."""
        for table in _NUMBERED:
            await self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'seq'), coalesce(max(seq), 0) + 1, false) FROM {table}"
            )
        await self._connection.execute(
            f"UPDATE executions SET claimed = 0, ready_at = {NOW}, wake_at = NULL,"
            " suspect = CASE WHEN progress = 2 THEN 0 ELSE 1 END,"
            " suspect_starts = suspect_starts + CASE WHEN progress = 1 THEN 1 ELSE 0 END WHERE claimed = 1"
        )
        await self._connection.execute(
            "UPDATE notices SET claimed = 0, crashes = crashes + 1 WHERE claimed = 1"
        )


@asynccontextmanager
async def loading(connection: Any) -> AsyncIterator[Load]:
    """See ``PortableStorage.loading``."""
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        for table in TABLES:
            if await connection.fetchval(f"SELECT 1 FROM {table} LIMIT 1"):
                raise Conflict(f"the storage holds something already: its table {table} is not empty")
        load = Load(connection)
        yield load
        await load.finish()
