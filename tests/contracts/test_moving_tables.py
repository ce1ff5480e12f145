"""What moves from one storage to another is all there is: no table or column of a storage is left behind unnoticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hub.plugin import TABLES
from plugins_core.sqlite.migrate import migrate
from tests.contracts.test_postgres_storage import settings
from tests.services.postgres import fetch

_STAYS = {
    "sqlite": {"changes", "sqlite_sequence"},
    "postgres": {
        "changes",
        "change_numbers",
        "commits",
        "migrations",
        "nodes",
        "trigger_leases",
        # moved through the file store
        "files",
        "file_chunks",
    },
}
"""What is of one process's or one server's own."""
_OWN_COLUMNS = {("executions", "node"), ("notices", "node")}


def test_every_column_of_sqlite_moves(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    migrate(connection)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        (table, row[1])
        for table in names
        if table not in _STAYS["sqlite"]
        for row in connection.execute(f"PRAGMA table_info({table})")
    }
    connection.close()
    assert found == {(table, column) for table, columns in TABLES.items() for column in columns}


async def test_every_column_of_postgres_moves(database: str, tmp_path: Path) -> None:
    from plugins_core.postgres.storage import PostgresStorage

    async with PostgresStorage.open(settings(database, tmp_path)):
        rows = await fetch(
            database,
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'",
        )
    found = {(row[0], row[1]) for row in rows if row[0] not in _STAYS["postgres"]}
    moved = {(table, column) for table, columns in TABLES.items() for column in columns}
    assert found - _OWN_COLUMNS == moved
