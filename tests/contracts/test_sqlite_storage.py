"""The SQLite storage keeps the contract, and what is its own: it is there after it was closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.errors import StorageError
from hub.plugin import Arrival, Page, Storage, StorageSettings
from hub.testing.storage_contract import AT, StorageContract, a_run, an_execution, started, step
from plugins_core.sqlite.storage import SqliteStorage
from plugins_core.sqlite.writer import Commit


def settings(folder: Path) -> StorageSettings:
    return StorageSettings(f"sqlite:///{folder / 'hub.db'}", folder, SystemClock())


class TestSqliteStorage(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        async with SqliteStorage.open(settings(tmp_path)) as storage:
            yield storage


async def test_what_was_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    async with SqliteStorage.open(settings(tmp_path)) as storage:
        claim = await started(storage)
        await storage.record(step(claim, task_runs=(a_run(outputs={"x": 1}),), progress=True))
    async with SqliteStorage.open(settings(tmp_path)) as storage:
        assert await storage.take_over(at=AT) == 1
        [again] = await storage.claim(limit=5, at=AT)
        assert again.execution.id == claim.execution.id
        [run] = (await storage.task_runs(claim.execution.id, Page())).items
        assert run.outputs == {"x": 1}


async def test_one_bad_item_of_a_shared_commit_fails_alone(tmp_path: Path) -> None:
    async with SqliteStorage.open(settings(tmp_path)) as storage:
        twice = an_execution()
        good = [an_execution() for _ in range(3)]
        await storage.accept([Arrival((twice,))], at=AT)
        answers = await asyncio.gather(
            *(storage.accept([Arrival((one,))], at=AT) for one in (*good, twice)), return_exceptions=True
        )
        assert [type(answer) is StorageError for answer in answers] == [False, False, False, True]
        for one in good:
            await storage.execution(one.id)


async def test_every_commit_is_flushed(tmp_path: Path) -> None:
    async with SqliteStorage.open(settings(tmp_path)) as storage:
        found: list[int] = []

        def look(commit: Commit) -> None:
            found.append(commit.connection.execute("PRAGMA synchronous").fetchone()[0])
            found.append(commit.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")

        await storage._write(look)  # type: ignore[attr-defined]
        assert found == [2, True]
