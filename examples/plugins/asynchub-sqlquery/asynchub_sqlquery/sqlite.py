"""Ask SQLite: in a thread, since its library blocks; a query that has to stop is interrupted."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote, unquote

from asynchub_sqlquery.answers import Found, rows_of
from asynchub_sqlquery.settings import Connection
from hub.plugin import Fail, Failed, TaskContext

_BUSY = 5.0
"""Seconds to wait for another who writes."""


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
    path = unquote(connection.url.removeprefix("sqlite:///"))
    opened = await asyncio.to_thread(_open, path, name, write)
    try:
        asking = asyncio.ensure_future(asyncio.to_thread(_ask, opened, sql, parameters, name, most))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # the thread would go on, and hold its lock
            opened.interrupt()
            await asyncio.wait([asking])
            asking.exception()
            raise
    finally:
        await asyncio.to_thread(opened.close)


def _open(path: str, name: str, write: bool) -> sqlite3.Connection:
    # one that is not there is a mistake, never a new, empty one
    uri = f"file:{quote(path)}?mode={'rw' if write else 'ro'}"
    try:
        return sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise Failed(f'the database "{name}" cannot be opened: {error}') from error


def _ask(opened: sqlite3.Connection, sql: str, parameters: Sequence[Any], name: str, most: int) -> Found:
    try:
        opened.execute("BEGIN")
        with closing(opened.execute(sql, [_given(one) for one in parameters])) as cursor:
            columns = [column[0] for column in cursor.description or ()]
            rows = rows_of(columns, cursor.fetchmany(most + 1), most) if columns else []
            count = len(rows) if columns else max(cursor.rowcount, 0)
        opened.execute("COMMIT")
        return Found(rows, count)
    except sqlite3.OperationalError as error:
        # a lock may be gone the next time; a name that does not exist is not there then either
        kind = Failed if "locked" in str(error) or "disk" in str(error) else Fail
        raise kind(f'the database "{name}" refuses the query: {error}') from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise Fail(f'the database "{name}" refuses the query: {error}') from error


def _given(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise Fail("a parameter is text, a number, true, false or null; write a list as text with toJson")
    return value
