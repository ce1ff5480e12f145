"""Bring a database up to date: numbered SQL files, under one lock, each in its own transaction and remembered.

Safe from several nodes at once: they wait for each other, and the last finds nothing left to do. A file that was
changed after it was applied stops the start, since nobody knows what the tables look like then.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hub.plugin import StorageError
from plugins_core.postgres.address import Address
from plugins_core.postgres.commits import NOW
from plugins_core.postgres.rows import lock_number

_TABLE = (
    "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL,"
    " checksum text NOT NULL, applied_at bigint NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Every step, in order."""
    folder = resources.files("plugins_core.postgres") / "migrations"
    found = []
    for entry in folder.iterdir():
        match = re.match(r"(\d{4})_(.*)\.sql$", entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found, key=lambda one: one.number)


async def pending(connection: Any, address: Address) -> list[Migration]:
    """What would be applied. Raises ``StorageError`` for tables that this hub does not know."""
    exists = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{address.schema}.migrations")
    if not exists:
        return migrations()
    rows = await connection.fetch("SELECT number, name, checksum FROM migrations ORDER BY number")
    known = {one.number: one for one in migrations()}
    for number, name, checksum in rows:
        one = known.get(number)
        if one is None:
            raise StorageError(
                f"the database was written by a newer asynchub (it has {name}, this one knows {max(known):04})",
                hint="upgrade asynchub, or use another schema: ?schema=NAME in the storage's URL",
            )
        if one.checksum != checksum:
            raise StorageError(
                f"the migration {name} was applied with another content than this asynchub has",
                hint="install the version that wrote this database, or restore a backup",
            )
    applied = {row[0] for row in rows}
    return [one for one in known.values() if one.number not in applied]


async def migrate(connection: Any, address: Address) -> list[Migration]:
    """Apply what is missing; answers it."""
    applied: list[Migration] = []
    while True:
        async with connection.transaction():
            # for as long as one step takes, and only while it is looked whether there is one
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1::bigint)", lock_number("migrate", address.lock_key)
            )
            if not applied:
                if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", address.schema):
                    await connection.execute(f'CREATE SCHEMA "{address.schema}"')
                await connection.execute(_TABLE)
            left = await pending(connection, address)
            if not left:
                return applied
            step = left[0]
            # a large table takes longer than any other statement may
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute(step.sql)
            await connection.execute(
                f"INSERT INTO migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, {NOW})",
                step.number,
                step.name,
                step.checksum,
            )
            applied.append(step)
