"""Ask PostgreSQL: one pool for each database, shared by all tasks and closed when the hub stops."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asynchub_sqlquery.answers import Found, rows_of
from asynchub_sqlquery.settings import Connection
from hub.plugin import Fail, Failed, TaskContext

_PATIENCE = 10.0
"""Seconds to wait for a new connection."""
_IDLE = 60.0
_LATER = ("08", "40", "53", "55", "57", "58")
"""The classes of errors after which the same query may succeed: connection, conflict, resources, lock, stop."""


async def ask(
    ctx: TaskContext,
    name: str,
    connection: Connection,
    sql: str,
    parameters: Sequence[Any],
    *,
    write: bool,
    most: int,
) -> Found:
    """The answer to one statement. Raises ``Fail`` for what would fail again, ``Failed`` for the rest."""
    try:
        import asyncpg
    except ImportError as error:
        raise Fail(
            "asyncpg is not installed. Install it with: pip install 'asynchub-sqlquery[postgres]'"
        ) from error
    password = await ctx.secret(connection.password_secret) if connection.password_secret else None

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        async with asyncpg.create_pool(
            connection.url,
            password=password,
            min_size=0,
            max_size=connection.pool,
            timeout=_PATIENCE,
            max_inactive_connection_lifetime=_IDLE,
        ) as pool:
            yield pool

    try:
        pool = await ctx.shared(f"postgres {name}", opened)
        async with pool.acquire(timeout=_PATIENCE) as session, session.transaction(readonly=not write):
            statement = await session.prepare(sql)
            columns = [column.name for column in statement.get_attributes()]
            if not columns:
                await statement.fetch(*parameters)
                return Found([], _changed(statement.get_statusmsg()))
            cursor = await statement.cursor(*parameters)
            found = rows_of(columns, map(tuple, await cursor.fetch(most + 1)), most)
            return Found(found, len(found))
    except asyncpg.PostgresError as error:
        kind = Failed if (error.sqlstate or "").startswith(_LATER) else Fail
        raise kind(f'the database "{name}" refuses the query: {error}') from error
    except asyncpg.InterfaceError as error:
        # parameters that do not fit: their number, or a type
        raise Fail(f'the database "{name}" refuses the parameters: {error}') from error
    except (OSError, TimeoutError) as error:
        raise Failed(f'the database "{name}" does not answer: {type(error).__name__}: {error}') from error


def _changed(status: str | None) -> int:
    """``INSERT 0 3`` is three."""
    number = (status or "").rpartition(" ")[2]
    return int(number) if number.isdigit() else 0
