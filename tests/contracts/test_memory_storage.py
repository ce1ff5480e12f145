"""The memory storage keeps the same contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.plugin import Storage, StorageSettings
from hub.testing.storage_contract import StorageContract
from plugins_core.memory.storage import MemoryStorage


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        async with MemoryStorage.open(StorageSettings("memory:", tmp_path, SystemClock())) as storage:
            yield storage
