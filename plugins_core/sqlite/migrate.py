"""Bring a database file up to date: numbered SQL files, each in its own transaction, counted in user_version."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from hub.plugin import StorageError


def migrations() -> list[tuple[int, str]]:
    """Number and SQL of every migration, in order."""
    folder = resources.files("plugins_core.sqlite") / "migrations"
    found = []
    for entry in folder.iterdir():
        match = re.match(r"(\d{4})_.*\.sql$", entry.name)
        if match:
            found.append((int(match[1]), entry.read_text("utf-8")))
    return sorted(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing. Raises ``StorageError`` for a file that a newer hub has written."""
    steps = migrations()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = steps[-1][0]
    if version > newest:
        raise StorageError(
            f"the database was written by a newer asynchub (schema {version}, this one knows {newest})",
            hint="upgrade asynchub, or start with another --data folder",
        )
    for number, sql in steps:
        if number > version:
            # executescript commits what is open first, so the transaction is part of the script
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
