"""The PostgreSQL storage keeps the contract that SQLite and the memory keep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.plugin import Storage, StorageSettings
from hub.testing.storage_contract import StorageContract
from plugins_core.postgres.settings import PostgresSettings
from plugins_core.postgres.storage import PostgresStorage
from tests.services.postgres import empty

SETTINGS = PostgresSettings(allow_unsafe=True, writers=2)


def settings(url: str, folder: Path) -> StorageSettings:
    return StorageSettings(url, folder, SystemClock(), settings=SETTINGS)


class TestPostgresStorage(StorageContract):
    @pytest.fixture
    async def storage(self, module_database: str, tmp_path: Path) -> AsyncIterator[Storage]:
        await empty(module_database)
        async with PostgresStorage.open(settings(module_database, tmp_path)) as storage:
            yield storage
