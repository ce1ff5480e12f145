"""A hub in one process, on each storage where it matters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.testing import Harness, harness
from tests.support.stage import Stage


# PostgreSQL with the long tests: the storages are held to one contract, so its turn here need not come each time
@pytest.fixture(params=["memory:", "sqlite", pytest.param("postgres", marks=pytest.mark.faults)])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    url = request.param
    plugins: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if url == "sqlite":
        url = f"sqlite:///{tmp_path / 'hub.db'}"
    elif url == "postgres":
        url = request.getfixturevalue("database")
        plugins = {"postgres": {"allowUnsafe": True}}
        settings = {"files": {"store": "local"}}
    environ = {"HUB_SECRET_TOKEN": "s3cr3t-value"}
    async with harness(tmp_path, storage=url, environ=environ, plugins=plugins, settings=settings) as hub:
        yield hub


@pytest.fixture
def stage() -> Stage:
    return Stage()
