"""What a server must be like before a hub trusts it with anything."""

from __future__ import annotations

from typing import Any

import structlog

from hub.plugin import StorageError
from plugins_core.postgres.settings import PostgresSettings

log = structlog.get_logger("hub.postgres")

OLDEST = 130000
_LOSES = {
    "fsync": "what was answered is lost when the server's machine goes down",
    "full_page_writes": "its files may be torn when the server's machine goes down",
}
_DURABLE = ("on", "remote_write", "remote_apply")


async def check_server(connection: Any, settings: PostgresSettings) -> None:
    """Refuse a server that is too old or does not keep what it answered. Raises ``StorageError`` naming what."""
    shown = dict(
        await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('fsync', 'full_page_writes', 'synchronous_commit', 'server_version_num', 'server_version',"
            " 'server_encoding', 'transaction_read_only')"
        )
    )
    if int(shown["server_version_num"]) < OLDEST:
        raise StorageError(f"PostgreSQL {shown['server_version']} is too old", hint="it takes 13 or newer")
    if shown["server_encoding"] != "UTF8":
        raise StorageError(
            f"the database's encoding is {shown['server_encoding']}, expected UTF8",
            hint="create it with ENCODING 'UTF8'",
        )
    if shown["transaction_read_only"] == "on":
        raise StorageError(
            "the server takes no writes: it is a standby, or default_transaction_read_only is on",
            hint="name the primary in the storage's URL",
        )
    for name, consequence in _LOSES.items():
        if shown[name] != "off":
            continue
        if not settings.allow_unsafe:
            raise StorageError(
                f"the server runs with {name} = off: {consequence}",
                hint=f"set {name} = on in postgresql.conf; for a trial, plugins: {{postgres: {{allowUnsafe: true}}}}",
            )
        log.warning(f"the server runs with {name} = off: {consequence}")
    if shown["synchronous_commit"] not in _DURABLE:
        # the hub's own sessions ask for it; whoever set it should know
        log.warning(
            "the server's synchronous_commit would answer before anything is durable; this hub's sessions use on",
            setting=shown["synchronous_commit"],
        )


async def is_pooled(connection: Any, other: Any) -> bool:
    """Whether a pooler in transaction mode stands between: two connections that share one session of the server.

    A pooler in session mode gives each its own, as none at all does.
    """
    if connection.get_server_pid() == await connection.fetchval("SELECT pg_backend_pid()"):
        return False
    first = await connection.fetchval("SELECT pg_backend_pid()")
    async with other.transaction():
        return bool(await other.fetchval("SELECT pg_backend_pid()") == first)
