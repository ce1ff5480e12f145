"""The storage keeps the contract."""

import pytest
from asynchub_example.storage.storage import ExampleStorage

from hub.plugin import StorageSettings
from hub.testing import StorageContract, VirtualClock


class TestExampleStorage(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path):
        settings = StorageSettings("example:", tmp_path, VirtualClock())
        async with ExampleStorage.open(settings) as storage:
            yield storage
