"""Nodes over a PostgreSQL of the tests, as quick to notice a silence as tests want them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from hub.clock import SystemClock
from hub.plugin import StorageSettings
from plugins_core.postgres.settings import PostgresSettings
from plugins_core.postgres.storage import PostgresStorage

QUICK = PostgresSettings(
    allow_unsafe=True,
    writers=2,
    lease=timedelta(seconds=3),
    heartbeat=timedelta(seconds=0.2),
    statement_timeout=timedelta(seconds=2),
    connect_timeout=timedelta(seconds=1),
)


@asynccontextmanager
async def opened(url: str, folder: Path, given: PostgresSettings = QUICK) -> AsyncIterator[PostgresStorage]:
    """A node over a database, with its folder."""
    folder.mkdir(exist_ok=True, parents=True)
    async with PostgresStorage.open(StorageSettings(url, folder, SystemClock(), settings=given)) as storage:
        assert isinstance(storage, PostgresStorage)
        yield storage
