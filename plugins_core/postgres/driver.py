"""The driver, wrapped: connections as the hub needs them, and what an error means. Imported by ``open`` alone.

Nothing else of the plugin imports asyncpg, so that a hub which does not use PostgreSQL never loads it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import asyncpg

from hub.plugin import NotYours, StorageError, StorageUnavailable
from plugins_core.postgres.address import Address
from plugins_core.postgres.settings import PostgresSettings

OLDEST = 130000
_SLACK = 5.0
"""Seconds that a client waits longer than its server may take: then the connection itself is dead."""
_CLOSING = 2.0

Failure = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # between a server's last word and the end of the line the driver takes its own state for broken
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)
"""Whatever talking to a server may raise."""

_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_REFUSED = {
    "executions_by_event": "a trigger starts its flow once for an event",
    "executions_id_key": "an execution of this id is stored already",
    "events_id_key": "an event of this id is stored already",
}
"""What a broken unique key means, by its name."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """One that is given back as it is: nothing here leaves anything behind in a session."""

    def get_reset_query(self) -> str:
        return ""

    # plugins run in this process: one that closes what it has found is told that it may not

    def close(self, *, timeout: float | None = None) -> Any:
        _check_caller(sys._getframe(1))
        return super().close(timeout=timeout)

    def terminate(self) -> None:
        _check_caller(sys._getframe(1))
        super().terminate()


def _check_caller(frame: FrameType) -> None:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package not in ("asyncpg", "plugins_core"):
        raise NotYours(
            "this connection to the hub's database is the storage's, and stays open",
            hint="open a connection of its own: asyncpg.connect(…)",
        )


class Driver:
    """Opens connections to one database."""

    def __init__(self, address: Address, settings: PostgresSettings) -> None:
        self.address = address
        self.settings = settings

    async def connect(self, name: str) -> Any:
        """A connection of its own. Raises ``Failure``."""
        return await asyncpg.connect(**self._options(name))

    async def pool(self, name: str) -> Any:
        """Connections for whoever needs one for a moment, opened when they are."""
        return await asyncpg.create_pool(
            min_size=0,
            max_size=self.settings.others,
            max_inactive_connection_lifetime=60,
            **self._options(name),
        )

    def _options(self, name: str) -> dict[str, Any]:
        given = self.settings
        statement = given.statement_timeout.total_seconds()
        return {
            "dsn": self.address.dsn,
            "connection_class": _Connection,
            "timeout": given.connect_timeout.total_seconds(),
            "command_timeout": statement + _SLACK,
            "statement_cache_size": 500,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "application_name": f"asynchub {name}",
                "search_path": self.address.schema,
                "timezone": "UTC",
                "standard_conforming_strings": "on",
                "statement_timeout": str(int(statement * 1000)),
                "lock_timeout": str(int(given.lock_timeout.total_seconds() * 1000)),
                # a hub that froze, or a line that was cut, must not keep its locks
                "idle_in_transaction_session_timeout": str(int(given.idle.total_seconds() * 1000)),
                "tcp_keepalives_idle": "5",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
                # the planner's start-up for a compiled plan costs more than the statement
                "jit": "off",
            },
        }


@asynccontextmanager
async def connected(driver: Driver, name: str) -> AsyncIterator[Any]:
    """A connection that is closed at the end of the block."""
    connection = await driver.connect(name)
    try:
        yield connection
    finally:
        await close(connection)


async def close(connection: Any) -> None:
    """Close a connection, whether or not anybody answers."""
    try:
        async with asyncio.timeout(_CLOSING):
            await connection.close()
    except Failure:
        connection.terminate()


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may go through at once: another was in its way."""
    return isinstance(error, _AGAIN)


def is_refusal(error: BaseException) -> bool:
    """Whether it is about what was to be stored, not about the server."""
    refusals = (
        asyncpg.IntegrityConstraintViolationError,
        asyncpg.DataError,
        asyncpg.ProgramLimitExceededError,
        asyncpg.SyntaxOrAccessError,
    )
    return isinstance(error, refusals)


def plain(error: BaseException) -> BaseException:
    """The error as the engine knows it.

    What the data itself makes impossible will never be stored; everything else of a server is "away for now".
    """
    if is_refusal(error):
        told = _REFUSED.get(getattr(error, "constraint_name", None) or "")
        return _caused(StorageError(told or f"this cannot be stored: {error}"), error)
    if isinstance(error, Failure):
        return _caused(StorageUnavailable(f"postgres: {spelled(error)}"), error)
    return error


def spelled(error: BaseException) -> str:
    """A server's or driver's own words, never empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _caused(made: Exception, cause: BaseException) -> Exception:
    made.__cause__ = cause
    return made
