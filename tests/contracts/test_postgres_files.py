"""The PostgreSQL file store keeps the contract that the local one keeps."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.errors import InvalidInput, NotFound
from hub.plugin import FileStore
from hub.testing import FileStoreContract
from plugins_core.local.file_store import LocalFileStore
from plugins_core.memory.storage import MemoryStorage
from plugins_core.postgres.file_store import PostgresFileStore
from plugins_core.postgres.storage import PostgresStorage
from tests.contracts.test_postgres_storage import settings
from tests.services.postgres import empty


class TestPostgresFileStore(FileStoreContract):
    @pytest.fixture
    async def make(self, module_database: str, tmp_path: Path) -> AsyncIterator[Callable[[], FileStore]]:
        async with PostgresStorage.open(settings(module_database, tmp_path)) as storage:
            await empty(module_database)

            def make() -> FileStore:
                store = PostgresFileStore(tmp_path)
                store.use_storage(storage)
                return store

            yield make


async def test_a_file_is_seen_by_another_node(module_database: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    content = b"shared" * 500_000
    async with (
        PostgresStorage.open(settings(module_database, one)) as first,
        PostgresStorage.open(settings(module_database, other)) as second,
    ):
        here, there = PostgresFileStore(one), PostgresFileStore(other)
        here.use_storage(first)
        there.use_storage(second)
        uri = await here.put("owner", "x", content)
        path = await there.path(uri)
        assert path.is_relative_to(other)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
        await there.delete(["owner"])
        assert not path.exists()
        with pytest.raises(NotFound):
            await here.get(uri)


async def test_a_file_moves_in_from_a_local_store_under_its_name(
    module_database: str, tmp_path: Path
) -> None:
    uri = await LocalFileStore(tmp_path).put("owner", "a name.json", b"content")
    async with PostgresStorage.open(settings(module_database, tmp_path)) as storage:
        store = PostgresFileStore(tmp_path)
        store.use_storage(storage)
        for _ in range(2):  # again does no harm
            await store.adopt(uri, io.BytesIO(b"content"))
        assert await store.get(uri) == b"content"


def test_it_goes_with_no_other_storage(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="goes with a PostgreSQL storage"):
        PostgresFileStore(tmp_path).use_storage(MemoryStorage(SystemClock()))
