"""Before a database is used: is it one that can be trusted, and are its tables up to date."""

from __future__ import annotations

from hub.plugin import StorageError
from plugins_core.postgres.address import Address
from plugins_core.postgres.checks import check_server, is_pooled
from plugins_core.postgres.driver import Driver, Failure, connected, spelled
from plugins_core.postgres.migrate import migrate
from plugins_core.postgres.settings import PostgresSettings

_POOLER = (
    "a pooler in transaction mode stands between the hub and PostgreSQL: statements are prepared in one session and"
    " run in another"
)


async def prepare(address: Address, settings: PostgresSettings) -> Driver:
    """A driver for a database that was checked and brought up to date. Raises ``StorageError``."""
    driver = Driver(address, settings)
    try:
        async with connected(driver, "start") as connection, connected(driver, "start") as other:
            await check_server(connection, settings)
            if await is_pooled(connection, other):
                raise StorageError(
                    _POOLER, hint="name the server itself in the storage's URL, or a pooler in session mode"
                )
            path = await connection.fetchval("SELECT current_setting('search_path')")
            if address.schema != "public" and path != address.schema:
                raise StorageError(
                    f"the schema {address.schema} of the URL does not reach the server: it looks into {path}",
                    hint="let the pooler hand on search_path, or leave schema= out",
                )
            await migrate(connection, address)
    except Failure as error:
        raise StorageError(spelled(error)) from error
    return driver
